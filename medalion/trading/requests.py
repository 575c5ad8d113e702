"""What a caller asks for: an order, or a position to open."""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from typing import Required, TypedDict
from uuid import UUID

from medalion.core.enums import AssetType, PositionSide, TradeSide, TradeType
from medalion.market.lookup import chosen
from medalion.market.names import AccountLike, SignalLike, StrategyLike, Tradable


class _Fields(TypedDict, total=False):
    account: Required[AccountLike]
    symbol: Tradable | None
    quantity: Decimal | int | None
    asset_type: AssetType | str | None
    strategy: StrategyLike | None
    signal: SignalLike | None
    client_order_id: str | None
    stop_loss: Decimal | int | None
    take_profit: Decimal | int | None
    notes: str | None
    at: datetime | None


class OrderFields(_Fields, total=False):
    """What every order is given; what may be left out, and what it is then, is as in `CreateTradeRequest`."""

    side: TradeSide | str | None


class OpeningFields(_Fields, total=False):
    """What a position to open is given: `side` is long or short, the rest as in `OrderFields`."""

    side: PositionSide | str


class ClosingFields(TypedDict, total=False):
    """What an order that closes a position may be given: our id of it, notes, and the decision's time."""

    client_order_id: str | None
    notes: str | None
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    account: AccountLike
    symbol: Tradable | None = None
    quantity: Decimal | int | None = None
    asset_type: AssetType | str | None = None
    strategy: StrategyLike | None = None
    signal: SignalLike | None = None
    client_order_id: str | None = None
    stop_loss: Decimal | int | None = None
    take_profit: Decimal | int | None = None
    notes: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTradeRequest(_Request):
    """An order to place.

    With a `signal`, what is left out of `symbol`, `side`, `quantity` and `strategy` is the signal's. `client_order_id`
    names the order for good: the same id again is the same order. Left out, it is that of the signal, else a new one,
    which the trade returned carries: a caller that must survive a crash gives its own. `at` is the decision's time, by
    default now. `stop_loss` and `take_profit` are prices per unit of a position it opens. `position_id` is the position
    that the order closes or reduces; with `is_entry`, an order that would reduce one is refused. Which prices a type of
    order takes is `medalion.venues.states.PRICES`; `trail_percent` is above 0 and below 100: 5 is 5 %.
    """

    side: TradeSide | str | None = None
    trade_type: TradeType = TradeType.MARKET
    limit_price: Decimal | int | None = None
    stop_price: Decimal | int | None = None
    trail_price: Decimal | int | None = None
    trail_percent: Decimal | int | None = None
    position_id: UUID | None = None
    is_entry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPositionRequest(_Request):
    """A position to open, or to add to, at the market; what may be left out is as in `CreateTradeRequest`."""

    side: PositionSide | str = PositionSide.LONG

    def trade(self) -> CreateTradeRequest:
        """The order that opens it."""
        shared = {field.name: getattr(self, field.name) for field in fields(_Request)}
        is_long = chosen(PositionSide, self.side, name="side") is PositionSide.LONG
        side = TradeSide.BUY if is_long else TradeSide.SELL
        return CreateTradeRequest(**shared, side=side, is_entry=True)
