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

from medalion.core.enums import CashMovementType, PositionStatus, SettlementType
from medalion.core.money import ZERO, exact
from medalion.market.quotes import MarketView
from medalion.positions.events import SettlementEvent, Split, event_of
from medalion.positions.holding import rescaled
from medalion.positions.line import FOLDED, Line, advance
from medalion.positions.round_trips import BookEntry, Execution, RoundTrip, fold
from oltp.entities.trading import CashMovement, Fill, Position, Settlement
from oltp.repositories.rows import Statement, rows_of, run
from oltp.repositories.unit_of_work import UnitOfWork

ON_LINE = """{0}.account_id = %(account)s AND {0}.instrument_id = %(instrument)s
    AND {0}.strategy_id IS NOT DISTINCT FROM %(strategy)s::uuid AND NOT {0}.is_deleted"""

# The last time before the change at which nothing was held, and after which nothing was opened at the same time.
_FLAT = f"""
    SELECT max(held.closed_at) AS at FROM positions AS held
    WHERE {ON_LINE.format("held")} AND held.status = 'closed' AND held.closed_at < %(since)s
      AND NOT EXISTS (SELECT FROM positions AS other
                      WHERE {ON_LINE.format("other")} AND other.status <> 'cancelled' AND other.id <> held.id
                        AND other.opened_at <= held.closed_at
                        AND (other.closed_at IS NULL OR other.closed_at > held.closed_at))
"""
_AFTER = "(%(flat)s::timestamptz IS NULL OR {} > %(flat)s)"
_POSITIONS = f"""
    SELECT held.* FROM positions AS held
    WHERE {ON_LINE.format("held")} AND held.status <> 'cancelled'
      AND (held.closed_at IS NULL OR {_AFTER.format("held.closed_at")})
    ORDER BY held.id FOR UPDATE
"""
_FILLS = f"""
    SELECT fills.*, trades.metadata -> 'risk' AS risk FROM fills JOIN trades ON trades.id = fills.trade_id
    WHERE {ON_LINE.format("trades")} AND fills.account_id = %(account)s AND fills.instrument_id = %(instrument)s
      AND fills.busted_at IS NULL AND NOT fills.is_deleted AND {_AFTER.format("fills.executed_at")}
"""
_SETTLEMENTS = f"""
    SELECT settlements.* FROM settlements JOIN positions AS held ON held.id = settlements.position_id
    WHERE {ON_LINE.format("held")} AND settlements.account_id = %(account)s
      AND settlements.instrument_id = %(instrument)s AND {_AFTER.format("settlements.occurred_at")}
    ORDER BY settlements.id
"""
# Every line on which something was held then or later, in one order for all that lock several.
_LINES = """
    SELECT DISTINCT held.account_id, held.strategy_id, held.instrument_id, held.symbol, held.asset_id,
           held.option_contract_id, held.outcome_id, held.polymarket_event_id, held.multiplier,
           accounts.base_currency AS currency
    FROM positions AS held JOIN accounts ON accounts.id = held.account_id
    WHERE held.instrument_id = ANY(%(instruments)s) AND NOT held.is_deleted AND held.status <> 'cancelled'
      AND (held.closed_at IS NULL OR held.closed_at >= %(first)s)
      AND (%(account)s::uuid IS NULL OR held.account_id = %(account)s)
    ORDER BY held.instrument_id, held.account_id, held.strategy_id
"""
# A trade belongs to the position that its first fill led to.
_TRADES = """
    UPDATE trades SET position_id = given.position_id, row_version = row_version + 1, updated_at = now()
    FROM unnest(%(trades)s::uuid[], %(positions)s::uuid[]) AS given (trade_id, position_id)
    WHERE trades.id = given.trade_id AND trades.position_id IS DISTINCT FROM given.position_id
      AND NOT EXISTS (SELECT FROM fills WHERE fills.trade_id = trades.id AND fills.busted_at IS NULL
                      AND fills.executed_at <= %(flat)s)
"""

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


async def refold(
    unit: UnitOfWork,
    line: Line,
    since: datetime,
    *,
    settling: Sequence[SettlementEvent] = (),
    views: dict[str, MarketView] | None = None,
) -> RefoldResult:
    """The line's positions after everything booked on it, and `settling`; `since` is when the first change took effect.

    Events that are booked already are left out of `settling` by their id. `views` has what the market showed at
    executions that are new.

    Raises:
        ConflictError: a split leaves a fraction of a unit that 8 decimals cannot say.
    """
    await run(unit.session, line.lock)
    known = await _load(unit, line, since)
    new = [event for event in settling if event.event not in known.settled]
    executions: list[BookEntry] = [_execution(fill) for fill in known.fills.values()]
    events = [*(event_of(rows) for rows in known.settled.values()), *new]
    trips = list(fold([*executions, *events], multiplier=line.multiplier))
    before = {position.id: _state(position) for position in known.positions.values()}
    _forget_marks(known.positions.values(), max([since, *(entry.at for entry in executions)]))
    positions: list[Position] = []
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
        positions.append(position)
    for position in unused.values():
        _cancel(position)
    changed = [position for position in (*unused.values(), *positions) if before.get(position.id) != _state(position)]
    await _store(unit, changed, set(before))
    settled = await _book_effects(unit, line, known, events, effects, led)
    await _relate(unit, known, trips, led)
    return RefoldResult(led, settled)


async def settle(
    unit: UnitOfWork, events: Mapping[int, SettlementEvent], *, account_id: UUID | None = None
) -> list[Position]:
    """The positions that the events changed, by instrument: those of one account, or of all; booked before, none.

    Raises:
        ConflictError: a split leaves a fraction of a unit that 8 decimals cannot say.
    """
    first = min((event.at for event in events.values()), default=None)
    wanted = {"instruments": list(events), "account": account_id, "first": first}
    (found,) = await run(unit.session, Statement(_LINES, wanted))
    changed = []
    for row in found:
        line = Line(**row)
        event = events[line.instrument_id]
        folded = await refold(unit, line, event.at, settling=[event])
        if event.event in folded.settled:
            changed += folded.led[event.event]
    return changed


async def _load(unit: UnitOfWork, line: Line, since: datetime) -> _StoredLine:
    ((row,),) = await run(unit.session, Statement(_FLAT, {**line.key, "since": since}))
    given = {**line.key, "flat": row["at"]}
    texts = (_POSITIONS, _FILLS, _SETTLEMENTS)
    held, filled, settled = await run(unit.session, *(Statement(text, given) for text in texts))
    by_event: dict[str, list[Settlement]] = defaultdict(list)
    for row in settled:
        by_event[row["event"]].append(rows_of(Settlement).made(row))
    return _StoredLine(
        positions={row["id"]: rows_of(Position).made(row) for row in held},
        fills={row["execution_id"]: rows_of(Fill).made(row) for row in filled},
        risks={row["execution_id"]: row["risk"] for row in filled},
        settled=dict(by_event),
        flat=given["flat"],
    )


def _execution(fill: Fill) -> Execution:
    return Execution(fill.executed_at, fill.execution_id, fill.side, fill.quantity, fill.price, fill.commission)


def _state(position: Position) -> tuple[Any, ...]:
    return tuple(getattr(position, name) for name in FOLDED)


def _forget_marks(positions: Iterable[Position], last: datetime) -> None:
    """Marks that are no later than the last execution may be those of one that was undone; folding sets them again."""
    for position in positions:
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


def _opened(line: Line, trip: RoundTrip, known: _StoredLine, views: dict[str, MarketView]) -> Position:
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


async def _store(unit: UnitOfWork, changed: list[Position], stored: set[UUID]) -> None:
    """Those that end first: a line has one open position at any time."""
    rows = rows_of(Position)
    ended_first = sorted(changed, key=lambda position: position.closed_at is None)
    statements = [
        rows.change(position, *FOLDED) if position.id in stored else rows.insertion(position)
        for position in ended_first
    ]
    if statements:
        await run(unit.session, *statements)


async def _book_effects(
    unit: UnitOfWork,
    line: Line,
    known: _StoredLine,
    events: Sequence[SettlementEvent],
    effects: dict[str, _Effect],
    led: dict[str, list[Position]],
) -> list[str]:
    """The events for which a settlement was added, and cash: those whose effect is another than what is booked."""
    added: list[Settlement | CashMovement] = []
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
            added.append(line.moved(kind, paid, event.at, settlement_id=settlement.id))
    if added:
        await run(unit.session, *(rows_of(type(row)).insertion(row) for row in added))
    return settled


async def _relate(
    unit: UnitOfWork, known: _StoredLine, trips: Sequence[RoundTrip], led: dict[str, list[Position]]
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
    statements = []
    for name, fill in known.fills.items():
        positions = [str(position.id) for position in led[name]]
        if fill.realized_pnl != realized[name] or (fill.extra or {}).get("positions") != positions:
            fill.realized_pnl, fill.extra = realized[name], {**(fill.extra or {}), "positions": positions}
            statements.append(rows_of(Fill).change(fill, "realized_pnl", "extra"))
    if first:
        statements.append(
            Statement(_TRADES, {"trades": list(first), "positions": list(first.values()), "flat": known.flat})
        )
    if statements:
        await run(unit.session, *statements)
