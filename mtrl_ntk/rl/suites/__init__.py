"""Sets of tasks, one file or folder each; all that is particular to them stands there."""
