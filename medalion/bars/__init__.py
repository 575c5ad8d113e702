"""Bars that are stored, made on reading, or kept beforehand."""
