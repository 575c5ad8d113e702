"""Reads that show what several sources say of one instrument side by side, and tell whoever did not ask for it."""

from medalion.core.errors import MixedSourcesWarning, warn_caller
from medalion.observations.selection import ReadRequest


class MixedSources:
    """Of which datasets a store has told that their sources are mixed: once is enough."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, asked: ReadRequest) -> None:
        """Warn, once a dataset, where none was asked for and several have rows of an instrument; bars never mix."""
        name = asked.dataset.name
        if asked.sources is not None or not asked.preference or asked.dataset.has_timeframe or name in self._told:
            return
        self._told.add(name)
        sources = sorted({source for names in asked.preference.values() for source in names})
        shown = f"{name} shows the rows of several sources side by side: {', '.join(sources)}; name one with source="
        warn_caller(shown, MixedSourcesWarning)
