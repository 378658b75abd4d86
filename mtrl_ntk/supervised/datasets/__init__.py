"""Data sets: one file each, named in the registry."""
