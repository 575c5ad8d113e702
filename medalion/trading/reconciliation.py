"""What became of orders while nobody looked: the venues are asked, and what is missing is booked or submitted again."""

from dataclasses import dataclass
from datetime import datetime

from medalion.core.enums import TradeStatus
from medalion.market.lookup import account_of
from medalion.market.names import AccountLike
from medalion.trading.desk import Desk
from medalion.trading.intents import resumed
from medalion.trading.orders import book, record_fill
from medalion.venues.base import FillReport
from medalion.venues.states import WORKING


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What `reconcile` found, by client order id: orders it asked about, those whose fills were missing here, those
    that had never arrived and were submitted, and those that only one side knows."""

    asked: tuple[str, ...]
    filled: tuple[str, ...]
    submitted: tuple[str, ...]
    unknown: tuple[str, ...]


async def reconcile(desk: Desk, *, account: AccountLike | None = None, since: datetime | None = None) -> Reconciliation:
    """What was found by asking the venues about every order that is not over, and booking what was missing.

    An order that its venue never saw is submitted, under the same id. With `since`, the executions from then on are
    asked for as well, so that one that came after the end of its order is found.

    >>> found = store.trading.reconcile(account="paper")  # on every start of a bot
    >>> found.unknown
    ()
    """
    async with desk.units() as unit:
        owners = [await account_of(unit, account)] if account is not None else await unit.accounts.find()
        working = [trade for owner in owners for trade in await unit.trades.by_status(*WORKING, account=owner)]
    by_id = {owner.id: owner for owner in owners}
    filled, submitted, unknown = set[str](), list[str](), list[str]()
    for trade in working:
        venue = desk.venue_of(by_id[trade.account_id])
        report = await venue.find_order(trade.account_id, trade.client_order_id)
        if report is None and trade.status is not TradeStatus.PENDING:
            unknown.append(trade.client_order_id)
            continue
        if report is None:
            async with desk.units() as unit:
                intent = await resumed(unit, trade, by_id[trade.account_id], desk.at(None))
            report = await venue.submit(intent.order)
            submitted.append(trade.client_order_id)
        if (await book(desk, report)).filled_quantity != trade.filled_quantity:
            filled.add(trade.client_order_id)
    for owner in owners if since is not None else ():
        for fill in await desk.venue_of(owner).executions(owner.id, desk.at(since)):
            if await _is_missing(desk, fill, unknown):
                await record_fill(desk, fill)
                filled.add(fill.client_order_id)
    return Reconciliation(
        tuple(trade.client_order_id for trade in working), tuple(sorted(filled)), tuple(submitted), tuple(unknown)
    )


async def _is_missing(desk: Desk, fill: FillReport, unknown: list[str]) -> bool:
    """Whether the execution is one of our orders and not booked; what is no order of ours is added to `unknown`."""
    async with desk.units() as unit:
        if await unit.fills.any(venue=fill.venue, execution_id=fill.execution_id):
            return False
        is_ours = await unit.trades.any(account_id=fill.account_id, client_order_id=fill.client_order_id)
    if not is_ours:
        unknown.append(fill.client_order_id)
    return is_ours
