"""TradingService: from a decision to an order, its fills, the position they add up to and the cash that moves."""

from datetime import datetime
from decimal import Decimal

from medalion.core.enums import AssetType, PositionSide, TradeSide, TradeStatus, TradeType
from medalion.core.errors import ConflictError, VenueError
from medalion.market.lookup import chosen, instrument_behind
from medalion.market.names import AccountLike, SignalLike, StrategyLike, Tradable
from medalion.trading.portfolio import Which
from medalion.trading.requests import CreateTradeRequest, OpenPositionRequest
from medalion.trading.settlements import Settlements
from medalion.trading.views import PositionDto, TradeDto
from oltp.entities.trading import Trade


class TradingService(Settlements):
    """Orders, positions and portfolios of all accounts.

    `venue` takes the orders of every account, or is a mapping that has one for each type of account.
    """

    async def execute_market_order(
        self,
        *,
        account: AccountLike,
        symbol: Tradable | None = None,
        side: TradeSide | str | None = None,
        quantity: Decimal | int | None = None,
        asset_type: AssetType | str | None = None,
        strategy: StrategyLike | None = None,
        signal: SignalLike | None = None,
        client_order_id: str | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> TradeDto:
        """The trade as its venue left it: filled, rejected with the reason, or still working.

        For what may be left out see `CreateTradeRequest`. The same client order id again is the same order, once.

        Raises:
            InputError: a number, time or name that cannot be understood; nothing is written.
            NotFoundError: account, strategy, signal or instrument is not known.
            ConflictError: one of them may not trade, or the client order id is that of another order.
            VenueError: whether the order arrived is not known; the trade is pending until `reconcile` finds out.
        """
        return await self.create_trade(
            CreateTradeRequest(
                account=account,
                symbol=symbol,
                side=side,
                quantity=quantity,
                asset_type=asset_type,
                strategy=strategy,
                signal=signal,
                client_order_id=client_order_id,
                notes=notes,
                at=at,
            )
        )

    async def execute_limit_order(
        self,
        *,
        account: AccountLike,
        limit_price: Decimal | int,
        symbol: Tradable | None = None,
        side: TradeSide | str | None = None,
        quantity: Decimal | int | None = None,
        asset_type: AssetType | str | None = None,
        strategy: StrategyLike | None = None,
        signal: SignalLike | None = None,
        client_order_id: str | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> TradeDto:
        """The trade: filled at the limit or better, or submitted and resting; raises as `execute_market_order`."""
        return await self.create_trade(
            CreateTradeRequest(
                account=account,
                symbol=symbol,
                side=side,
                quantity=quantity,
                asset_type=asset_type,
                trade_type=TradeType.LIMIT,
                limit_price=limit_price,
                strategy=strategy,
                signal=signal,
                client_order_id=client_order_id,
                notes=notes,
                at=at,
            )
        )

    async def execute_stop_order(
        self,
        *,
        account: AccountLike,
        stop_price: Decimal | int,
        symbol: Tradable | None = None,
        side: TradeSide | str | None = None,
        quantity: Decimal | int | None = None,
        asset_type: AssetType | str | None = None,
        strategy: StrategyLike | None = None,
        signal: SignalLike | None = None,
        client_order_id: str | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> TradeDto:
        """The trade, which fills as a market order once the market reaches `stop_price`, at once if it has already.

        A buy triggers when the ask is at the stop or above, a sell when the bid is at it or below. The fill may be at a
        worse price than the stop. Raises as `execute_market_order`.
        """
        return await self.create_trade(
            CreateTradeRequest(
                account=account,
                symbol=symbol,
                side=side,
                quantity=quantity,
                asset_type=asset_type,
                trade_type=TradeType.STOP,
                stop_price=stop_price,
                strategy=strategy,
                signal=signal,
                client_order_id=client_order_id,
                notes=notes,
                at=at,
            )
        )

    async def execute_stop_limit_order(
        self,
        *,
        account: AccountLike,
        stop_price: Decimal | int,
        limit_price: Decimal | int,
        symbol: Tradable | None = None,
        side: TradeSide | str | None = None,
        quantity: Decimal | int | None = None,
        asset_type: AssetType | str | None = None,
        strategy: StrategyLike | None = None,
        signal: SignalLike | None = None,
        client_order_id: str | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> TradeDto:
        """The trade, which rests as a limit order once the market reaches `stop_price`: see `execute_stop_order`.

        The limit of a buy is at the stop or above, that of a sell at it or below. Raises as `execute_market_order`.
        """
        return await self.create_trade(
            CreateTradeRequest(
                account=account,
                symbol=symbol,
                side=side,
                quantity=quantity,
                asset_type=asset_type,
                trade_type=TradeType.STOP_LIMIT,
                stop_price=stop_price,
                limit_price=limit_price,
                strategy=strategy,
                signal=signal,
                client_order_id=client_order_id,
                notes=notes,
                at=at,
            )
        )

    async def execute_trailing_stop_order(
        self,
        *,
        account: AccountLike,
        trail_price: Decimal | int | None = None,
        trail_percent: Decimal | int | None = None,
        symbol: Tradable | None = None,
        side: TradeSide | str | None = None,
        quantity: Decimal | int | None = None,
        asset_type: AssetType | str | None = None,
        strategy: StrategyLike | None = None,
        signal: SignalLike | None = None,
        client_order_id: str | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> TradeDto:
        """The trade, whose stop follows the best price its venue has seen, and then fills as `execute_stop_order`.

        The stop of a sell stands `trail_price`, in quote currency per unit, or `trail_percent` below the highest bid,
        that of a buy as much above the lowest ask. Give one of the two. Raises as `execute_market_order`.
        """
        return await self.create_trade(
            CreateTradeRequest(
                account=account,
                symbol=symbol,
                side=side,
                quantity=quantity,
                asset_type=asset_type,
                trade_type=TradeType.TRAILING_STOP,
                trail_price=trail_price,
                trail_percent=trail_percent,
                strategy=strategy,
                signal=signal,
                client_order_id=client_order_id,
                notes=notes,
                at=at,
            )
        )

    async def create_trade(self, request: CreateTradeRequest) -> TradeDto:
        """The trade that the request asks for; raises as `execute_market_order`."""
        return TradeDto.of(await self._place(request))

    async def open_position(
        self,
        *,
        account: AccountLike,
        symbol: Tradable | None = None,
        side: PositionSide | str = PositionSide.LONG,
        quantity: Decimal | int | None = None,
        asset_type: AssetType | str | None = None,
        strategy: StrategyLike | None = None,
        signal: SignalLike | None = None,
        client_order_id: str | None = None,
        stop_loss: Decimal | int | None = None,
        take_profit: Decimal | int | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> PositionDto:
        """The position after a market order for it, added to if there is one already; raises as
        `execute_market_order`, and:

        Raises:
            VenueError: the venue rejected the order.
            ConflictError: a position on the other side is open; or the venue has the order but filled nothing yet.
        """
        trade = await self._place(
            OpenPositionRequest(
                account=account,
                symbol=symbol,
                side=chosen(PositionSide, side, name="side"),
                quantity=quantity,
                asset_type=asset_type,
                strategy=strategy,
                signal=signal,
                client_order_id=client_order_id,
                stop_loss=stop_loss,
                take_profit=take_profit,
                notes=notes,
                at=at,
            ).trade()
        )
        if trade.position_id is None:
            raise _not_filled(trade)
        return await self.get_position(trade.position_id)

    async def close_position(
        self,
        position: Which,
        *,
        client_order_id: str | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> PositionDto:
        """The position after a market order for all that is left of it; it is closed once that has filled.

        Raises:
            ConflictError: it is closed, or an order that closes it is on its way.
            VenueError: the venue rejected the order, or whether it arrived is not known.
        """
        return await self._reduce(position, None, client_order_id, notes, at)

    async def partially_close_position(
        self,
        position: Which,
        quantity: Decimal | int,
        *,
        client_order_id: str | None = None,
        notes: str | None = None,
        at: datetime | None = None,
    ) -> PositionDto:
        """The position after a market order for `quantity` of what is left of it; raises as `close_position`."""
        return await self._reduce(position, quantity, client_order_id, notes, at)

    async def _reduce(
        self,
        position: Which,
        quantity: Decimal | int | None,
        name: str | None,
        notes: str | None,
        at: datetime | None,
    ) -> PositionDto:
        async with self._units() as unit:
            held = await unit.positions.get(position)
            instrument = await instrument_behind(unit, held)
        trade = await self._place(
            CreateTradeRequest(
                account=held.account_id,
                symbol=instrument,
                quantity=quantity,
                strategy=held.strategy_id,
                client_order_id=name,
                notes=notes,
                at=at,
                position_id=held.id,
            )
        )
        if trade.status is TradeStatus.REJECTED:
            raise VenueError(f"the order to close {held.symbol} was rejected: {trade.status_reason}")
        return await self.get_position(held.id)


def _not_filled(trade: Trade) -> VenueError | ConflictError:
    if trade.status is TradeStatus.REJECTED:
        return VenueError(f"the order for {trade.symbol} was rejected: {trade.status_reason}")
    return ConflictError(
        f"the order for {trade.symbol} is {trade.status} and nothing of it is filled yet; see trade {trade.id}"
    )
