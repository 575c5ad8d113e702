"""Figures of returns, equity, trades and forecasts; pure, of anybody's data."""
