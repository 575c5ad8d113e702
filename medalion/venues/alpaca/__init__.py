"""Alpaca as a venue, over its REST API; needs the extra `alpaca`."""

from medalion.venues.alpaca.venue import AlpacaVenue

__all__ = ["AlpacaVenue"]
