"""What a ledger must say, reckoned anew in exact fractions and by other means than the ledger's own.

All amounts have 8 decimals. What has more is rounded half-even, `rounded`, in these places only: the cash of an
execution; of one through zero, the cash and the commission of the part that closes, of which the part that opens is
the rest; the cost that a reduction releases; a dividend; and, in units after a split, the sum of the entries.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction


class FractionalUnitError(Exception):
    """A split leaves more than 8 decimals can say."""


@dataclass(frozen=True)
class ExecutionEntry:
    """`quantity` is negative for a sale."""

    at: datetime
    name: str
    quantity: Fraction
    price: Fraction
    commission: Fraction


@dataclass(frozen=True)
class EventEntry:
    """A split, of so many new units for an old one, or a dividend of so much for each unit."""

    at: datetime
    name: str
    ratio: Fraction = Fraction(1)
    each: Fraction = Fraction(0)


Entry = ExecutionEntry | EventEntry


@dataclass
class ModelPosition:
    """A position; `quantity` and `basis` are negative for a short one."""

    opened_at: datetime
    is_long: bool
    closed_at: datetime | None = None
    quantity: Fraction = Fraction(0)
    entered: Fraction = Fraction(0)
    basis: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    commissions: Fraction = Fraction(0)


@dataclass
class FoldedLine:
    """Positions in the order of their opening; and by entry: to which of them it led, what it realized, and for what
    happened to them, by how much the quantity changed and what was paid."""

    positions: list[ModelPosition] = field(default_factory=list)
    led: dict[str, list[int]] = field(default_factory=dict)
    realized: dict[str, Fraction] = field(default_factory=dict)
    effects: dict[str, tuple[Fraction, Fraction]] = field(default_factory=dict)
    cash: Fraction = Fraction(0)

    @property
    def open(self) -> ModelPosition | None:
        """The one that still holds something; None if none does."""
        return self.positions[-1] if self.positions and self.positions[-1].closed_at is None else None


def rounded(exact: Fraction) -> Fraction:
    """Half-even to 8 decimals, as Python rounds fractions."""
    return Fraction(round(exact * 10**8), 10**8)


def folded(entries: Iterable[Entry]) -> FoldedLine:
    """What the entries of one line add up to by time; of one time, what happened comes before executions.

    Raises:
        FractionalUnitError: a split leaves more than 8 decimals can say.
    """
    books = FoldedLine()
    for entry in sorted(entries, key=lambda entry: (entry.at, isinstance(entry, ExecutionEntry), entry.name)):
        books.led[entry.name], books.realized[entry.name] = [], Fraction(0)
        if isinstance(entry, ExecutionEntry):
            _execute(books, entry)
        elif books.open is not None:
            _happen(books, books.open, entry)
    return books


def _execute(books: FoldedLine, entry: ExecutionEntry) -> None:
    quantity, cost, commission = entry.quantity, rounded(entry.quantity * entry.price), entry.commission
    books.cash -= cost + commission
    held = books.open
    if held is not None and held.quantity * quantity < 0:
        part = -held.quantity if abs(quantity) > abs(held.quantity) else quantity
        part_cost, part_commission = rounded(part * entry.price), rounded(commission * part / quantity)
        released = rounded(held.basis * -part / held.quantity)
        gain = -part_cost - released
        held.quantity, held.basis, held.realized = held.quantity + part, held.basis - released, held.realized + gain
        held.commissions += part_commission
        held.closed_at = None if held.quantity else entry.at
        books.led[entry.name].append(len(books.positions) - 1)
        books.realized[entry.name] = gain
        quantity, cost, commission = quantity - part, cost - part_cost, commission - part_commission
    if quantity:
        if books.open is None:
            books.positions.append(ModelPosition(entry.at, quantity > 0))
        held = books.positions[-1]
        held.quantity, held.entered = held.quantity + quantity, held.entered + abs(quantity)
        held.basis, held.commissions = held.basis + cost, held.commissions + commission
        books.led[entry.name].append(len(books.positions) - 1)


def _happen(books: FoldedLine, held: ModelPosition, entry: EventEntry) -> None:
    after, paid = held.quantity * entry.ratio, rounded(held.quantity * entry.each)
    if after != rounded(after):
        raise FractionalUnitError(f"{held.quantity} units by {entry.ratio}")
    books.effects[entry.name] = after - held.quantity, paid
    books.led[entry.name].append(len(books.positions) - 1)
    books.realized[entry.name] = paid
    books.cash += paid
    held.quantity, held.entered, held.realized = after, rounded(held.entered * entry.ratio), held.realized + paid


@dataclass(frozen=True)
class Account:
    """The entries of each line, by its strategy and symbol; what happened counts where it has changed something."""

    deposits: Fraction
    lines: dict[tuple[str | None, str], tuple[Entry, ...]] = field(default_factory=dict)

    def folded(self) -> Iterator[tuple[tuple[str | None, str], FoldedLine]]:
        """Each line with what its entries add up to; raises FractionalUnitError."""
        return ((line, folded(entries)) for line, entries in self.lines.items())

    def with_entry(self, line: tuple[str | None, str], *entries: Entry, without: str | None = None) -> "Account":
        """The account with these entries on that line and without the one of that name."""
        kept = tuple(entry for entry in self.lines.get(line, ()) if entry.name != without)
        return replace(self, lines={**self.lines, line: kept + entries})

    def settled(self, symbol: str, event: EventEntry) -> "Account":
        """The account after the event was settled on every line of that symbol on which it changes something."""
        lines = {}
        for line, entries in self.lines.items():
            is_new = line[1] == symbol and event.name not in {entry.name for entry in entries}
            effect = folded((*entries, event)).effects.get(event.name) if is_new else None
            lines[line] = (*entries, event) if effect is not None and any(effect) else entries
        return replace(self, lines=lines)
