"""Positions as a fold over fills and settlements by time."""
