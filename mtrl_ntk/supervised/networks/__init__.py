"""Networks: one file each, named in the registry."""
