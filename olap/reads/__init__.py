"""Reads of the lake: lazy and narrow through Polars, wide ones, joins and SQL through DuckDB."""
