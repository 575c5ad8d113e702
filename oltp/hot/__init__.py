"""Observations in PostgreSQL: durable and visible at once, until the mirror has copied them."""
