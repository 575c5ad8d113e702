"""What a caller asks for: an order, or a position to open."""

from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from medalion.core.enums import AssetType, PositionSide, TradeSide, TradeType
from medalion.market.names import AccountLike, SignalLike, StrategyLike, Tradable


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

    side: PositionSide = PositionSide.LONG

    def trade(self) -> CreateTradeRequest:
        """The order that opens it."""
        shared = {field.name: getattr(self, field.name) for field in fields(_Request)}
        side = TradeSide.BUY if self.side is PositionSide.LONG else TradeSide.SELL
        return CreateTradeRequest(**shared, side=side, is_entry=True)
