"""Settings as fields of dataclasses, read from files and command lines."""
