"""What runs have written, put together, counted and drawn."""
