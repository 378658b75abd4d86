"""Tasks of one's own, as a user would write them; they import nothing of the package."""
