"""Measurements; every figure is printed beside its limit and, where there is one, a plain way of doing the same."""
