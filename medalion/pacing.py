"""How much the mirror takes at a time."""

_SECONDS = 5.0
_FEWEST = 20_000


class Pace:
    """The rows of the next batch: as many as take about five seconds at the speed of the last, and never more than
    `most`, so that a slow disk or bucket holds up neither other datasets nor a stop for long.

    >>> pace = Pace(2_000_000)
    >>> pace.rows
    2000000
    >>> pace.took(2_000_000, seconds=100.0)
    >>> pace.rows
    100000
    >>> pace.took(300, seconds=0.1)  # too few to tell
    >>> pace.rows
    100000
    >>> pace.took(100_000, seconds=1.0)
    >>> pace.rows
    200000
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows = most

    def took(self, rows: int, *, seconds: float) -> None:
        """Learn from a batch that was as large as was asked for; the pace at most doubles, since a second may lie."""
        if rows >= self.rows // 2:
            fitting = int(rows / max(seconds, 1e-3) * _SECONDS)
            self.rows = min(self._most, max(_FEWEST, min(fitting, 2 * self.rows)))
