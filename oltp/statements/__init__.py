"""Statements of the books by noun, many rows at a time; each takes the connection of a unit of work."""
