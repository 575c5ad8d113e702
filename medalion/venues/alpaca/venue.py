"""The broker Alpaca as a venue: stocks, options and crypto, paper or live, by its trading REST."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import anyio

from medalion.core.errors import ConflictError, InputError, NotFoundError, VenueError
from medalion.core.money import exact
from medalion.venues.alpaca import wire
from medalion.venues.alpaca.rest import PAUSES, AlpacaRest
from medalion.venues.alpaca.wire import BrokerExecution, BrokerOrder, UnclearError
from medalion.venues.base import FillReport, Order, OrderReport
from medalion.venues.states import is_working

_ORDERS_PER_PAGE = 500
_ACTIVITIES_PER_PAGE = 100
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Look:
    """An order as it was last seen: what was reported of it, and how much the broker said was filled."""

    report: OrderReport
    filled: Decimal

    @property
    def is_complete(self) -> bool:
        """Whether every execution is reported of what is filled so far."""
        with exact():
            return sum((fill.quantity for fill in self.report.fills), Decimal(0)) == self.filled

    @property
    def is_over(self) -> bool:
        return self.is_complete and not is_working(self.report.status)


class AlpacaVenue:
    """Places orders in one account of the broker.

    Credentials come from APCA_API_KEY_ID and APCA_API_SECRET_KEY unless given. `account_id` is the account here that
    the broker's is kept in; without it, that of the first order. Orders of other accounts are refused. `timeout` is in
    seconds, for each step of a request; `url` names another host.

    Orders for stocks and options are good for the day, in regular hours; those for crypto until cancelled. What else
    an order may be, Alpaca decides: a crypto pair takes no plain stop, an option no trail.

    Executions are the account's FILL activities, which name no fee. Stocks and options are free of commission; fees of
    crypto and of regulators are charged later, by activities of their own that name no execution. So commissions are
    zero here, and such fees are to be booked as cash movements. Activities may lag behind the order: one that is
    filled is reported as such with the executions known so far.

    An order that is replaced by hand at the broker goes on as the one that replaced it, under the id of the first.
    """

    name = wire.NAME

    def __init__(
        self,
        *,
        key_id: str | None = None,
        secret_key: str | None = None,
        paper: bool = True,
        url: str | None = None,
        account_id: UUID | None = None,
        timeout: float = 10.0,
    ) -> None:
        self._rest = AlpacaRest(key_id=key_id, secret_key=secret_key, paper=paper, url=url, timeout=timeout)
        self._account_id = account_id
        self._working: dict[str, _Look] = {}

    async def submit(self, order: Order) -> OrderReport:
        """The order as the broker has it, or rejected with the broker's reason.

        When a reply is lost, the broker is asked for the order, and it is submitted again only if it is not there.

        Raises:
            InputError: the order is of another account than this venue's.
            ConflictError: another order has this client order id.
            VenueError: whether the order arrived is not known, or the broker did not hear it.
        """
        if (reason := wire.refusal(order)) is not None:
            return wire.rejected(order, reason)
        self._keep_to(order.account_id)
        unclear: VenueError | None = None
        for pause in PAUSES[:-1]:
            refusal = None
            try:
                reply = await self._rest.ask("POST", "/orders", wire.request(order), repeats=False)
                if reply.refusal is None:
                    return await self._again(order, BrokerOrder.of(reply.body))
                refusal = reply.refusal
            except UnclearError as error:
                unclear = error
            try:
                kept = await self._find(order.client_order_id)
            except VenueError as error:
                unclear = error
                break
            if kept is not None:
                return await self._again(order, kept)
            # Only now it is sure that no earlier attempt arrived, which may be why money or shares are lacking.
            if refusal is not None and not wire.is_duplicate(refusal):
                return wire.rejected(order, refusal)
            await anyio.sleep(pause)
        raise VenueError(
            f"whether order {order.client_order_id!r} arrived at Alpaca is not known; reconcile before you order more"
        ) from unclear

    async def cancel(self, account_id: UUID, client_order_id: str, at: datetime) -> OrderReport:
        """The order after the attempt: over, or as it stands if the broker takes longer than a moment.

        Raises:
            InputError: the order is of another account than this venue's.
            NotFoundError: the broker has no such order.
            VenueError: the broker did not answer.
        """
        self._check_own(account_id)
        order = await self._find(client_order_id)
        if order is None:
            raise NotFoundError("order at Alpaca", client_order_id)
        last = (await self._followed(order))[-1]
        if is_working(last.status):
            # Refused, it is over or being cancelled already, which the next look shows.
            await self._rest.ask("DELETE", f"/orders/{last.id}")
            for pause in PAUSES:
                order = await self._order(order.id)
                if not is_working((await self._followed(order))[-1].status):
                    break
                await anyio.sleep(pause)
        return await self._reported(account_id, order)

    async def find_order(self, account_id: UUID, client_order_id: str) -> OrderReport | None:
        """The order with all its executions; None if it never arrived.

        Raises:
            VenueError: the broker did not answer.
        """
        if self._is_elsewhere(account_id):
            return None
        order = await self._find(client_order_id)
        return None if order is None else await self._reported(account_id, order)

    async def executions(self, account_id: UUID, since: datetime) -> list[FillReport]:
        """Every execution of the account at or after `since`, oldest first; of orders placed by hand too, under the
        client order ids that the broker gave them.

        Raises:
            VenueError: the broker did not answer.
        """
        if self._is_elsewhere(account_id):
            return []
        # The broker leaves out what happened at the very moment.
        after = (since - _SECOND).astimezone(UTC).isoformat().replace("+00:00", "Z")
        executed = [found for found in await self._executions(after=after) if found.executed_at >= since]
        if not executed:
            return []
        known = {order.id: order for order in await self._orders(status="all", after=after)}
        names = {order_id: await self._name(order_id, known) for order_id in {found.order_id for found in executed}}
        return [found.report(account_id, names[found.order_id]) for found in executed]

    async def advance(self, at: datetime) -> list[OrderReport]:
        """The orders that changed since they were last reported here, of those that this object was asked about.

        Of others it cannot tell whose they are: after a start, reconcile first. Without a working order the broker is
        not asked, and without a change once.

        Raises:
            VenueError: the broker did not answer.
        """
        if not self._working:
            return []
        standing = {order.id: order for order in await self._orders(status="open")}
        changed = []
        for seen in list(self._working.values()):
            order = standing.get(seen.report.venue_order_id or "")
            if (
                order is None
                or (order.status, order.filled) != (seen.report.status, seen.filled)
                or not seen.is_complete
            ):
                order = await self._find(seen.report.client_order_id)
                look = seen if order is None else await self._looked(seen.report.account_id, order)
                if look != seen:
                    changed.append(look)
        for look in changed:
            self._remember(look)
        return [look.report for look in changed]

    def close(self) -> None:
        """Close the connections to the broker."""
        self._rest.close()

    def _keep_to(self, account_id: UUID) -> None:
        """From now on, orders of this account only."""
        self._check_own(account_id)
        self._account_id = account_id

    def _check_own(self, account_id: UUID) -> None:
        if self._is_elsewhere(account_id):
            raise InputError(
                f"this venue places orders of account {self._account_id}, not of {account_id}; "
                "make one AlpacaVenue for each account at the broker",
                given=account_id,
                expected=self._account_id,
            )

    def _is_elsewhere(self, account_id: UUID) -> bool:
        return self._account_id not in (None, account_id)

    async def _find(self, client_order_id: str) -> BrokerOrder | None:
        found = await self._rest.find("/orders:by_client_order_id", {"client_order_id": client_order_id})
        return None if found is None else BrokerOrder.of(found)

    async def _order(self, order_id: str) -> BrokerOrder:
        found = await self._rest.find(f"/orders/{order_id}")
        if found is None:
            raise VenueError(f"Alpaca names an order {order_id} and does not have it; ask its support")
        return BrokerOrder.of(found)

    async def _again(self, order: Order, kept: BrokerOrder) -> OrderReport:
        """What the broker has under this id; it must be the order that is submitted."""
        if not wire.is_same(order, kept):
            raise ConflictError(
                f"client order id {order.client_order_id!r} is that of another order at Alpaca: {kept.order_type} "
                f"{kept.side} {kept.quantity} {kept.symbol}; give every order its own id"
            )
        return await self._reported(order.account_id, kept)

    async def _followed(self, order: BrokerOrder) -> list[BrokerOrder]:
        """The order, and those that replaced it, in turn."""
        orders = [order]
        while (successor := orders[-1].replaced_by) is not None:
            orders.append(await self._order(successor))
        return orders

    async def _looked(self, account_id: UUID, order: BrokerOrder) -> _Look:
        orders = await self._followed(order)
        executions = [
            execution
            for each in orders
            if each.filled
            # The filter is new; a host that does not know it tells those of all orders.
            for execution in await self._executions(order_id=each.id)
            if execution.order_id == each.id
        ]
        return _Look(wire.report(account_id, orders, executions), wire.filled(orders))

    async def _reported(self, account_id: UUID, order: BrokerOrder) -> OrderReport:
        self._keep_to(account_id)
        look = await self._looked(account_id, order)
        self._remember(look)
        return look.report

    def _remember(self, look: _Look) -> None:
        if look.is_over:
            self._working.pop(look.report.client_order_id, None)
        else:
            self._working[look.report.client_order_id] = look

    async def _name(self, order_id: str, known: dict[str, BrokerOrder]) -> str:
        """The client order id that the order, or the first that it replaces, was submitted under."""
        order = known.get(order_id) or await self._order(order_id)
        while order.replaces is not None:
            order = known.get(order.replaces) or await self._order(order.replaces)
        return order.client_order_id

    async def _orders(self, **asked: str) -> list[BrokerOrder]:
        """Of all pages; one that was submitted at the very moment where two pages meet may be missing."""
        found: list[BrokerOrder] = []
        place: dict[str, Any] = {}
        while True:
            asking = {"limit": _ORDERS_PER_PAGE, "direction": "desc", **asked, **place}
            page = wire.rows(await self._rest.find("/orders", asking))
            found += [BrokerOrder.of(row) for row in page]
            if len(page) < _ORDERS_PER_PAGE:
                return found
            place = _onward(place, {"until": page[-1].get("submitted_at")})

    async def _executions(self, **asked: str) -> list[BrokerExecution]:
        """Of all pages, oldest first."""
        found: dict[str, BrokerExecution] = {}
        place: dict[str, Any] = {}
        while True:
            asking = {"page_size": _ACTIVITIES_PER_PAGE, "direction": "asc", **asked, **place}
            page = wire.rows(await self._rest.find("/account/activities/FILL", asking))
            found |= {execution.id: execution for execution in wire.executions_in(page)}
            if len(page) < _ACTIVITIES_PER_PAGE:
                return sorted(found.values(), key=lambda execution: (execution.executed_at, execution.id))
            place = _onward(place, {"page_token": page[-1].get("id")})


def _onward(place: dict[str, Any], then: dict[str, Any]) -> dict[str, Any]:
    """The next place to read from.

    Raises:
        UnclearError: it is the last one again, and would be for ever.
    """
    if then == place:
        raise UnclearError(f"Alpaca shows the page after {then} again; expected the next one")
    return then
