"""Batch jobs: each run is kept with its parameters, what it read and what it found."""

from medalion.jobs.runs import Jobs

__all__ = ["Jobs"]
