"""Words and values that everything shares; imports nothing else of the project."""
