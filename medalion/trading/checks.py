"""What an order may ask of its instrument: prices and a quantity that it can trade at, while it is traded."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from medalion.core.enums import InstrumentKind, TradeSide
from medalion.core.errors import ConflictError, InputError
from medalion.core.money import exact
from medalion.core.time import EXCHANGE_ZONE
from medalion.market.instrument import Instrument
from medalion.market.lookup import amount
from medalion.trading.requests import CreateTradeRequest
from medalion.venues.states import price_fault
from oltp.entities.trading import TradingSignal

_ALL = Decimal(100)
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Prices:
    """What an order is given, per unit; at `stop_loss` and `take_profit` a position that it opens is to be closed."""

    limit: Decimal | None
    stop: Decimal | None
    trail: Decimal | None
    trail_percent: Decimal | None
    stop_loss: Decimal | None
    take_profit: Decimal | None

    @property
    def own(self) -> Decimal | None:
        """The price that the order itself names: its limit, else its stop."""
        return self.stop if self.limit is None else self.limit

    @property
    def risk(self) -> dict[str, Decimal]:
        """Those of a position that it opens."""
        named = {"stop_loss": self.stop_loss, "take_profit": self.take_profit}
        return {name: price for name, price in named.items() if price is not None}


def prices_of(
    request: CreateTradeRequest, signal: TradingSignal | None, side: TradeSide, instrument: Instrument
) -> Prices:
    """The prices of the order; a stop loss or take profit that it leaves out is the signal's.

    Raises:
        InputError: they are not those of its type, one is not above zero or none that the instrument can have, or they
            make no sense on that side.
    """
    fault = price_fault(request)
    if fault is not None:
        raise InputError(fault, given=request.trade_type)
    given: dict[str, Decimal | None] = {}
    for name in ("limit_price", "stop_price", "trail_price", "trail_percent", "stop_loss", "take_profit"):
        asked = getattr(request, name)
        given[name] = None if asked is None else amount(asked, name=name)
    if signal is not None:
        for name in ("stop_loss", "take_profit"):
            given[name] = getattr(signal, name) if given[name] is None else given[name]
    prices = Prices(*given.values())
    if prices.trail_percent is not None and prices.trail_percent >= _ALL:
        raise InputError(
            f"trail_percent {prices.trail_percent} is not below 100; give percent, 5 for 5 %",
            given=prices.trail_percent,
        )
    if prices.stop is not None and prices.limit is not None and (prices.limit - prices.stop) * side.sign < 0:
        raise InputError(
            f"a {side} with stop {prices.stop} and limit {prices.limit} could not fill when it triggers; give a limit "
            f"at the stop or {'above' if side is TradeSide.BUY else 'below'} it",
            given=prices.limit,
        )
    if instrument.kind is InstrumentKind.OUTCOME:
        for name in ("limit_price", "stop_price", "stop_loss", "take_profit"):
            _check_probability(name, given[name])
    if instrument.tick_size is not None:
        for name in ("limit_price", "stop_price"):
            _check_tick(name, given[name], instrument.tick_size)
    if request.position_id is None and prices.own is not None:
        check_stop_loss(side, prices.own, prices.stop_loss)
    return prices


def check_stop_loss(side: TradeSide, price: Decimal, stop_loss: Decimal | None) -> None:
    """Raises InputError where an order at `price` would have been stopped before it fills."""
    if stop_loss is not None and (price - stop_loss) * side.sign < 0:
        raise InputError(
            f"stop_loss {stop_loss} of a {side} at {price} is on the side of its profit; give one "
            f"{'below' if side is TradeSide.BUY else 'above'} the price",
            given=stop_loss,
        )


def check_quantity(instrument: Instrument, quantity: Decimal) -> None:
    """Raises InputError for a fraction of an option contract, and for less than the market takes."""
    if instrument.kind is InstrumentKind.OPTION and quantity != quantity.to_integral_value():
        raise InputError(
            f"quantity {quantity} of {instrument.symbol} is no whole number of contracts; give one",
            given=quantity,
            expected="whole contracts",
        )
    if instrument.min_order_size is not None and is_below_minimum(instrument, quantity):
        raise InputError(
            f"quantity {quantity} is below {plain(instrument.min_order_size)}, the least that the market of "
            f"{instrument.symbol} takes; give at least that, or close all that is left",
            given=quantity,
            expected=instrument.min_order_size,
        )


def is_below_minimum(instrument: Instrument, quantity: Decimal) -> bool:
    """Whether the market of an outcome is known to take no order so small, unless it closes all that is left."""
    return instrument.min_order_size is not None and quantity < instrument.min_order_size


def plain(amount: Decimal) -> str:
    """The number without the zeros that its column adds.

    >>> plain(Decimal("0.01000000"))
    '0.01'
    """
    with exact():
        return f"{amount.normalize():f}"


def check_not_ended(instrument: Instrument, at: datetime) -> None:
    """Raises ConflictError once the instrument is settled instead of traded: an option from the day after its
    expiration, in New York; an outcome from the resolution of its market.
    """
    if instrument.is_resolved:
        raise ConflictError(
            f"the market of outcome {instrument.symbol} is resolved and trades no more; its resolution settles what is "
            "held"
        )
    if instrument.expiration_date is not None and instrument.expiration_date < at.astimezone(EXCHANGE_ZONE).date():
        raise ConflictError(
            f"option {instrument.symbol} expired on {instrument.expiration_date} and trades no more; settle what is "
            "held of it"
        )


def _check_probability(name: str, price: Decimal | None) -> None:
    if price is not None and price > _ONE:
        raise InputError(
            f"{name} {price} of an outcome is above 1, which is what a token pays; give a price from 0 to 1",
            given=price,
            expected="0 to 1",
        )


def _check_tick(name: str, price: Decimal | None, tick: Decimal) -> None:
    if price is None:
        return
    with exact():
        below = price // tick * tick
        if below != price:
            raise InputError(
                f"{name} {price} is no multiple of the market's tick {plain(tick)}; give {plain(below)} or "
                f"{plain(below + tick)}",
                given=price,
                expected=(below, below + tick),
            )
