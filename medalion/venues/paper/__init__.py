"""The simulated venue: orders kept in tables of its own, filled at stored quotes."""

from medalion.venues.paper.venue import CommissionSchedule, PaperVenue

__all__ = ["CommissionSchedule", "PaperVenue"]
