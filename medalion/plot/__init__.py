"""Charts of frames; no store needed."""
