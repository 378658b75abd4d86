"""Success per task under a stated protocol."""
