"""Reports on supervised runs."""
