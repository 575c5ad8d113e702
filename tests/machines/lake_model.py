"""What a store must answer, by definition: an oracle that keeps every row ever written and looks at all of them.

Nothing is shared with the store but the declaration of the dataset: no file, batch, pin, index or last value.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import count
from typing import Any

from medalion.core.datasets import Availability, Dataset

Values = dict[str, Any]

_CLOSES = {"1Min": timedelta(minutes=1), "1Day": timedelta(days=1)}
_PLACE = Decimal("1E-8")


@dataclass(eq=False)
class Row:
    """One row of one write; `gone_at` is when retention took it with its partition."""

    values: Values
    write_id: int
    ordinal: int
    recorded_at: datetime
    is_deleted: bool = False
    is_mirrored: bool = False
    is_removed: bool = False
    gone_at: datetime | None = None

    @property
    def arrival(self) -> tuple[int, int]:
        return self.write_id, self.ordinal

    def all(self, names: Sequence[str]) -> tuple[Any, ...]:
        """Everything that is stored of the row."""
        return tuple(self.values[name] if name in self.values else getattr(self, name) for name in names)

    def is_held(self, as_of: datetime | None) -> bool:
        if as_of is None:
            return self.gone_at is None
        return self.recorded_at <= as_of and (self.gone_at is None or as_of < self.gone_at)


@dataclass(frozen=True)
class WriteRecord:
    """One write as its caller knows it."""

    write_id: int
    rows: tuple[Row, ...]
    source: str

    def holds(self, book: "Book", given: Sequence[Values], source: str) -> bool:
        """Whether it wrote these rows, in this order."""
        return [row.values for row in self.rows] == [book.as_stored(values, source) for values in given]


@dataclass
class Comparison:
    """What an import does: the rows that it stores, by their place, and how many of those given are what."""

    rows: int
    stored: dict[int, Values] = field(default_factory=dict)
    corrected: int = 0
    unchanged: int = 0


@dataclass
class Book:
    """Every row of one dataset; instruments are numbered by `ids`."""

    dataset: Dataset
    ids: dict[str, int]
    rows: list[Row] = field(default_factory=list)
    writes: list[WriteRecord] = field(default_factory=list)
    first: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of each symbol the sources with the write that brought their first row."""
    preferred: list[tuple[datetime, list[str]]] = field(default_factory=list)
    """From when on which sources answer before others."""
    by_key: dict[object, WriteRecord] = field(default_factory=dict)
    versions_removed_at: datetime | None = None
    rows_removed_at: datetime | None = None
    kept_from: datetime | None = None

    def add(
        self,
        given: Iterable[Values],
        *,
        write_id: int,
        recorded_at: datetime,
        source: str,
        is_deleted: bool = False,
        is_mirrored: bool = False,
        ordinals: Iterable[int] | None = None,
    ) -> WriteRecord:
        """Book one write as it was acknowledged; its rows are numbered from 0, or by `ordinals`."""
        rows = [
            Row(self.as_stored(values, source), write_id, place, recorded_at, is_deleted, is_mirrored)
            for place, values in zip(count() if ordinals is None else ordinals, given, strict=False)
        ]
        for row in rows:
            self.first.setdefault(row.values["symbol"], {}).setdefault(source, write_id)
        written = WriteRecord(write_id, tuple(rows), source)
        self.rows += rows
        self.writes.append(written)
        return written

    def differing(self, given: Sequence[Values], source: str) -> "Comparison":
        """What an import of these rows stores: the last of each key, unless that is how it is held."""
        told = [*(column.name for column in self.dataset.values), "available_at"]
        held = {self.key(row): row.values for row in self.current()}
        last = {self._key(self.as_stored(values, source)): place for place, values in enumerate(given)}
        found = Comparison(len(given))
        for key, place in sorted(last.items(), key=lambda each: each[1]):
            is_other = key not in held or any(held[key][name] != given[place].get(name) for name in told)
            if is_other:
                found.stored[place] = given[place]
            found.corrected += is_other and key in held
            found.unchanged += not is_other
        return found

    def current(self, as_of: datetime | None = None) -> list[Row]:
        """Each key's last row in the order of arrival, unless that is a tombstone; by symbol, time and arrival."""
        last: dict[tuple[Any, ...], Row] = {}
        for row in self.rows:
            if row.is_held(as_of):
                key = self.key(row)
                if key not in last or last[key].arrival < row.arrival:
                    last[key] = row
        return sorted((row for row in last.values() if not row.is_deleted), key=self._place)

    def read(
        self,
        *,
        symbols: Collection[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        timeframe: str | None = None,
        source: str | list[str] | None = None,
        as_of: datetime | None = None,
    ) -> list[Row]:
        """What `read` gives, row by row: of bars one a time."""
        sources = [source] if isinstance(source, str) else source
        rows = self.within(symbols=symbols, start=start, end=end, timeframe=timeframe, source=source, as_of=as_of)
        if not self.dataset.has_timeframe:
            return rows
        one: dict[tuple[Any, ...], Row] = {}
        for row in sorted(rows, key=lambda row: self.rank(row, sources, as_of)):
            one.setdefault(tuple(row.values[name] for name in ("symbol", "timeframe", "ts")), row)
        return sorted(one.values(), key=self._place)

    def within(
        self,
        *,
        symbols: Collection[str] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        timeframe: str | None = None,
        source: str | list[str] | None = None,
        as_of: datetime | None = None,
    ) -> list[Row]:
        """The same of every source, unless some are given, also those that a read would not show."""
        sources = [source] if isinstance(source, str) else source

        def is_asked(row: Row) -> bool:
            symbol, ts = row.values["symbol"], row.values["ts"]
            return (
                (symbols is None or symbol in symbols)
                and (start is None or ts >= start)
                and (end is None or ts < end)
                and (timeframe is None or row.values["timeframe"] == timeframe)
                and (sources is None or row.values["source"] in sources)
            )

        return [row for row in self.current(as_of) if is_asked(row)]

    def rank(self, row: Row, sources: list[str] | None, as_of: datetime | None) -> int:
        """How many sources answer before that of the row."""
        if sources is None:
            chosen = [names for since, names in self.preferred if as_of is None or since <= as_of]
            first = self.first[row.values["symbol"]]
            sources = [*(chosen[-1] if chosen else ()), *sorted(first, key=lambda name: (first[name], name))]
        return sources.index(row.values["source"])

    def latest(self, symbol: str, **asked: Any) -> Row | None:
        """The newest row of a series, by time and arrival."""
        source, as_of = asked.get("source"), asked.get("as_of")
        sources = [source] if isinstance(source, str) else source

        def place(row: Row) -> tuple[Any, ...]:
            return row.values["ts"], -self.rank(row, sources, as_of), row.arrival

        return max(self.read(symbols=[symbol], **asked), key=place, default=None)

    def known(self, symbol: str, moment: datetime, *, timeframe: str | None, tolerance: timedelta | None) -> Row | None:
        """The newest row of a symbol that was available at a moment, and not too long before it."""
        rows = self.read(symbols=[symbol], timeframe=timeframe)
        known = [row for row in rows if self.available_at(row) <= moment]

        def place(row: Row) -> tuple[Any, ...]:
            return row.values["ts"], self.available_at(row), -self.rank(row, None, None), row.arrival

        newest = max(known, key=place, default=None)
        is_too_old = newest is not None and tolerance is not None and moment - self.available_at(newest) > tolerance
        return None if is_too_old else newest

    def shown(self, row: Row, columns: Sequence[str] | None = None) -> tuple[Any, ...]:
        """The row as a read shows it."""
        return tuple(self._shown(row, name) for name in columns or self.dataset.schema.names)

    def lacking(self, given: Sequence[Values], held: Sequence[Row], source: str) -> list[Row]:
        """Which of the rows have no key of those given, in order of their keys."""
        keys = {self._key(self.as_stored(values, source)) for values in given}
        return sorted((row for row in held if self.key(row) not in keys), key=self.key)

    def key(self, row: Row) -> tuple[Any, ...]:
        return self._key(row.values)

    def _key(self, values: Values) -> tuple[Any, ...]:
        return tuple(values[name] for name in self.dataset.key)

    def available_at(self, row: Row) -> datetime:
        given, ts = row.values["available_at"], row.values["ts"]
        assert isinstance(ts, datetime)
        if isinstance(given, datetime):
            return given
        return ts + _CLOSES[row.values["timeframe"]] if self.dataset.available is Availability.AT_CLOSE else ts

    def mirrored(self) -> None:
        """All that was committed is in the lake."""
        for row in self.rows:
            row.is_mirrored = True

    def stored(self) -> list[Row]:
        """The rows that lake and hot tables hold, all versions."""
        return [row for row in self.rows if row.gone_at is None and not row.is_removed]

    def drop(self, old: Collection[Row], left: Collection[tuple[int, int]], at: datetime) -> int:
        """Retention took those of the old rows that are not `left` of the lake. How many went."""
        gone = [row for row in old if row.is_mirrored and row.arrival not in left]
        keys = {self.key(row) for row in gone}
        for row in self.rows:
            # What had superseded a removed version hides it no more.
            if row in gone or (row.is_removed and self.key(row) in keys):
                row.gone_at = at
        return len(gone)

    def remove_versions(self, left: Collection[tuple[int, int]]) -> int:
        """Only `left` remains of the lake: whatever went was superseded there, or a tombstone. How many went."""
        gone = [row for row in self.stored() if row.is_mirrored and row.arrival not in left]
        newest: dict[tuple[Any, ...], tuple[int, int]] = {}
        for row in self.stored():
            if row.is_mirrored:
                newest[self.key(row)] = max(row.arrival, newest.get(self.key(row), row.arrival))
        for row in gone:
            assert row.is_deleted or newest[self.key(row)] > row.arrival
            row.is_removed = True
        return len(gone)

    def lose(self, lost: Collection[Row]) -> None:
        """Damage took rows that nothing proved any more, of the past as well."""
        keys, gone = {self.key(row) for row in lost}, set(lost)
        # What had superseded a removed version hides it no more.
        self.rows = [row for row in self.rows if row not in gone and not (row.is_removed and self.key(row) in keys)]

    def may_be_refused(self, as_of: datetime, start: datetime | None) -> bool:
        """Whether retention has removed what such a read could need."""
        if self.versions_removed_at is not None and as_of < self.versions_removed_at:
            return True
        if self.rows_removed_at is None or as_of >= self.rows_removed_at:
            return False
        return start is None or self.kept_from is None or start < self.kept_from

    def as_stored(self, given: Values, source: str) -> Values:
        """The row with every column."""
        full = {column.name: given.get(column.name) for column in self.dataset.columns}
        return full | {"source": source, "instrument_id": self.ids[given["symbol"]]}

    def _place(self, row: Row) -> tuple[Any, ...]:
        return (*(row.values[name] for name in self.dataset.order), *row.arrival)

    def _shown(self, row: Row, name: str) -> Any:
        if name == "available_at":
            return self.available_at(row)
        if name == "mid_price":
            bid, ask = row.values["bid_price"], row.values["ask_price"]
            return None if bid is None or ask is None else ((bid + ask) / 2).quantize(_PLACE, ROUND_HALF_EVEN)
        return getattr(row, name) if name in ("write_id", "ordinal", "recorded_at") else row.values[name]
