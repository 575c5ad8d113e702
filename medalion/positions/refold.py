"""Positions made anew from their entries, where one came late, was undone, or takes effect in the past.

Positions of a line are a fold over its executions and settlements by time, whatever order they arrived in. What is
stored is made to agree with it, from the last moment before the change at which the line was flat: positions keep
their identity where their opening stands, those that are left without an entry are cancelled, and settlements whose
effect is another now are added to by the difference. Whoever folds holds the lock of the line.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from medalion.core.enums import CashMovementType, PositionStatus, SettlementType
from medalion.core.money import ZERO, exact
from medalion.market.quotes import Look
from medalion.positions.events import SettlementEvent, Split, event_of
from medalion.positions.holding import rescaled
from medalion.positions.line import FOLDED, Line, advance
from medalion.positions.round_trips import BookEntry, Execution, RoundTrip, fold
from oltp.entities.trading import CashMovement, Fill, Position, Settlement
from oltp.statements import fills, lines, positions, settlements, trades
from oltp.statements.base import insert, update

_Effect = tuple[Decimal, Decimal, Decimal]
_NOTHING: _Effect = (ZERO, ZERO, ZERO)


@dataclass(slots=True)
class RefoldResult:
    """The positions to which each execution or event led, by its id; the events for which a settlement was added."""

    led: dict[str, list[Position]]
    settled: list[str]


@dataclass(slots=True)
class _StoredLine:
    """What is stored of the line since it was flat."""

    positions: dict[UUID, Position]
    fills: dict[str, Fill]
    risks: dict[str, dict[str, str] | None]
    settled: dict[str, list[Settlement]]
    flat: datetime | None

    def led_to(self, entry: BookEntry) -> list[UUID]:
        """The positions that the entry was booked to."""
        if isinstance(entry, Execution):
            return [UUID(position) for position in (self.fills[entry.execution_id].extra or {}).get("positions", ())]
        return [row.position_id for row in self.settled.get(entry.place[2], ())]


def refold(
    connection: sa.Connection,
    line: Line,
    since: datetime,
    *,
    settling: Sequence[SettlementEvent] = (),
    views: Mapping[str, Look] | None = None,
) -> RefoldResult:
    """The line's positions after everything booked on it, and `settling`; `since` is when the first change took effect.

    Events that are booked already are left out of `settling` by their id. `views` has what the market showed at
    executions that are new.

    Raises:
        ConflictError: a split leaves a fraction of a unit that 8 decimals cannot say.
    """
    lines.lock(connection, line.key)
    known = _load(connection, line, since)
    new = [event for event in settling if event.event not in known.settled]
    executions: list[BookEntry] = [Execution.of(fill) for fill in known.fills.values()]
    events = [*(event_of(rows) for rows in known.settled.values()), *new]
    trips = list(fold([*executions, *events], multiplier=line.multiplier))
    before = {position.id: _state(position) for position in known.positions.values()}
    _forget_marks(known.positions.values(), max([since, *(entry.at for entry in executions)]))
    folded: list[Position] = []
    led: dict[str, list[Position]] = defaultdict(list)
    effects: dict[str, _Effect] = dict.fromkeys((event.event for event in events), _NOTHING)
    unused = dict(known.positions)
    for trip in trips:
        position = _kept(trip, known, unused) or _opened(line, trip, known, views or {})
        _blank(position, trip)
        for part in trip.parts:
            view = (views or {}).get(part.entry.place[2])
            advance(position, part.entry, part.step, view)
            led[part.entry.place[2]].append(position)
            if not isinstance(part.entry, Execution):
                step = part.step
                with exact():
                    quantity, paid, realized = effects[part.entry.place[2]]
                    effects[part.entry.place[2]] = (
                        quantity + step.quantity,
                        paid - step.cost,
                        realized + step.realized_pnl,
                    )
                if isinstance(part.entry, Split) and part.entry in new:
                    _restate_exits(position, part.entry)
        folded.append(position)
    for position in unused.values():
        _cancel(position)
    changed = [position for position in (*unused.values(), *folded) if before.get(position.id) != _state(position)]
    _store(connection, changed, set(before))
    settled = _book_effects(connection, line, known, events, effects, led)
    _relate(connection, known, trips, led)
    return RefoldResult(led, settled)


def settle(
    connection: sa.Connection, events: Mapping[int, SettlementEvent], *, account_id: UUID | None = None
) -> list[Position]:
    """The positions that the events changed, by instrument: those of one account, or of all; booked before, none.

    Raises:
        ConflictError: a split leaves a fraction of a unit that 8 decimals cannot say.
    """
    first = min((event.at for event in events.values()), default=None)
    changed = []
    for held in positions.lines_holding(connection, list(events), since=first, account_id=account_id):
        line = Line(**held)
        event = events[line.instrument_id]
        folded = refold(connection, line, event.at, settling=[event])
        if event.event in folded.settled:
            changed += folded.led[event.event]
    return changed


def _load(connection: sa.Connection, line: Line, since: datetime) -> _StoredLine:
    flat = positions.last_flat(connection, line.key, since)
    executed = fills.on_line_since(connection, line.key, flat)
    return _StoredLine(
        positions=positions.held_since(connection, line.key, flat),
        fills={name: fill for name, (fill, _) in executed.items()},
        risks={name: risk for name, (_, risk) in executed.items()},
        settled=settlements.on_line_since(connection, line.key, flat),
        flat=flat,
    )


def _state(position: Position) -> tuple[Any, ...]:
    return tuple(getattr(position, name) for name in FOLDED)


def _forget_marks(held: Iterable[Position], last: datetime) -> None:
    """Marks that are no later than the last execution may be those of one that was undone; folding sets them again."""
    for position in held:
        if position.marked_at is not None and position.marked_at <= last:
            position.current_price = position.marked_at = None


def _kept(trip: RoundTrip, known: _StoredLine, unused: dict[UUID, Position]) -> Position | None:
    """The stored position that the round trip continues: the one its first entry that opened or changed one led to."""
    for number, part in enumerate(trip.parts):
        led_to = known.led_to(part.entry)
        # An execution through zero led to two, of which it opened the later.
        for position_id in reversed(led_to) if number == 0 else led_to:
            if position_id in unused:
                return unused.pop(position_id)
    return None


def _opened(line: Line, trip: RoundTrip, known: _StoredLine, views: Mapping[str, Look]) -> Position:
    first = trip.parts[0]
    name = first.entry.place[2]
    return line.opened(first.entry, first.step, known.risks.get(name), views.get(name))


def _blank(position: Position, trip: RoundTrip) -> None:
    """As before its first entry; what the market showed, the stop and the target stay."""
    position.side, position.opened_at, position.closed_at = trip.side, trip.opened_at, None
    position.quantity = position.remaining_quantity = position.cost_basis = ZERO
    position.realized_pnl = position.commissions = ZERO


def _cancel(position: Position) -> None:
    """Nothing that was booked to it stands."""
    position.status, position.closed_at = PositionStatus.CANCELLED, position.closed_at or position.opened_at
    position.quantity = position.remaining_quantity = position.cost_basis = ZERO
    position.realized_pnl = position.commissions = ZERO


def _restate_exits(position: Position, split: Split) -> None:
    """A stop and a target are per old unit."""
    for price in ("stop_loss", "take_profit"):
        if (old := getattr(position, price)) is not None:
            setattr(position, price, rescaled(old, 1 / split.ratio))


def _store(connection: sa.Connection, changed: list[Position], stored: set[UUID]) -> None:
    """Those that end first: a line has one open position at any time."""
    for is_open in (False, True):
        these = [position for position in changed if (position.closed_at is None) is is_open]
        update(connection, [position for position in these if position.id in stored], *FOLDED)
        insert(connection, [position for position in these if position.id not in stored])


def _book_effects(
    connection: sa.Connection,
    line: Line,
    known: _StoredLine,
    events: Sequence[SettlementEvent],
    effects: dict[str, _Effect],
    led: dict[str, list[Position]],
) -> list[str]:
    """The events for which a settlement was added, and cash: those whose effect is another than what is booked."""
    added: list[Settlement] = []
    moved: list[CashMovement] = []
    settled = []
    for event in events:
        rows = known.settled.get(event.event, [])
        with exact():
            booked = [(row.quantity, row.cash, row.realized_pnl) for row in rows]
            sums = tuple(sum(parts, ZERO) for parts in zip(*booked, strict=True)) if booked else _NOTHING
            quantity, paid, realized = (is_ - was for is_, was in zip(effects[event.event], sums, strict=True))
        if not (quantity or paid or realized):
            continue
        position_id = led[event.event][-1].id if led[event.event] else rows[-1].position_id
        settlement = line.settled(event, position_id, (quantity, paid, realized))
        added.append(settlement)
        settled.append(event.event)
        if paid:
            is_dividend = event.kind is SettlementType.DIVIDEND
            kind = CashMovementType.DIVIDEND if is_dividend else CashMovementType.SETTLEMENT
            moved.append(line.moved(kind, paid, event.at, settlement_id=settlement.id))
    insert(connection, [*added, *moved])
    return settled


def _relate(
    connection: sa.Connection, known: _StoredLine, trips: Sequence[RoundTrip], led: dict[str, list[Position]]
) -> None:
    """Fills say what they led to and realized, and trades to which position they belong."""
    realized: dict[str, Decimal] = defaultdict(lambda: ZERO)
    first: dict[UUID, UUID] = {}
    for trip in trips:
        for part in trip.parts:
            name = part.entry.place[2]
            if isinstance(part.entry, Execution):
                with exact():
                    realized[name] += part.step.realized_pnl
                first.setdefault(known.fills[name].trade_id, led[name][0].id)
    changed = []
    for name, fill in known.fills.items():
        led_to = [str(position.id) for position in led[name]]
        if fill.realized_pnl != realized[name] or (fill.extra or {}).get("positions") != led_to:
            fill.realized_pnl, fill.extra = realized[name], {**(fill.extra or {}), "positions": led_to}
            changed.append(fill)
    update(connection, changed, "realized_pnl", "extra")
    trades.relate(connection, first, known.flat)
