"""Entities looked up, paged, added, changed, deleted and restored, within a unit of work."""
