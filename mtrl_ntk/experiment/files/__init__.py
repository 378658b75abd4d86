"""Files: written whole or not at all, grown row by row, locked."""
