"""The mapped classes: what has identity and changes."""
