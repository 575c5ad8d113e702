"""Corporate actions in the books: a split restates open positions in new shares, a dividend pays cash on them."""

from datetime import UTC, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

from medalion.errors import ConflictError, InputError
from medalion.portfolio import ZERO, value_of
from medalion.types import CashMovementType, CorporateActionType, SettlementType, cash, exact
from oltp.base import uuid7
from oltp.reference import CorporateAction
from oltp.repositories import OPEN
from oltp.trading import Account, Fill, Position, Settlement
from oltp.unit_of_work import UnitOfWork

_EXCHANGE_ZONE = ZoneInfo("America/New_York")


def effective_at(action: CorporateAction) -> datetime:
    """The midnight in New York with which the ex-date begins, in UTC."""
    return datetime.combine(action.ex_date, time(), _EXCHANGE_ZONE).astimezone(UTC)


async def settle_corporate_action(unit: UnitOfWork, action: CorporateAction, account: Account) -> list[Position]:
    """The account's open positions that the action changed, with a settlement each; done before, it changes nothing.

    A split multiplies the quantities and leaves the cost basis as it is. A dividend is paid in cash on the ex-date, by
    the account for a short position, and counts as realized P&L. Positions opened on or after the ex-date are left out.

    Raises:
        InputError: a rename, which concerns no quantity.
        ConflictError: a position was traded after the action took effect already, or would hold a fraction of a unit
            that 8 decimals cannot say.
    """
    if action.action_type is CorporateActionType.RENAME:
        raise InputError("a rename settles nothing", given=action.action_type, expected="split or dividend")
    at = effective_at(action)
    held = await unit.positions.find(
        Position.status.in_(OPEN), Position.opened_at < at, lock=True, account_id=account.id, asset_id=action.asset_id
    )
    settled = []
    for position in held:
        if await _is_settled(unit, action, position):
            continue
        await _check_order(unit, action, position, at)
        if action.action_type is CorporateActionType.SPLIT:
            settlement = _split(action, position, at)
        else:
            settlement = _dividend(action, position, at)
        await unit.positions.update(position)
        await unit.settlements.add(settlement)
        settled.append(position)
        if settlement.cash:
            await unit.cash_movements.create(
                account_id=account.id,
                movement_type=CashMovementType.DIVIDEND,
                amount=settlement.cash,
                currency=account.base_currency,
                occurred_at=at,
                settlement_id=settlement.id,
            )
    return settled


async def _is_settled(unit: UnitOfWork, action: CorporateAction, position: Position) -> bool:
    earlier = await unit.settlements.by_position(position)
    return any((settlement.details or {}).get("corporate_action_id") == str(action.id) for settlement in earlier)


async def _check_order(unit: UnitOfWork, action: CorporateAction, position: Position, at: datetime) -> None:
    late = await unit.fills.first(
        Fill.executed_at >= at,
        Fill.busted_at.is_(None),
        account_id=position.account_id,
        instrument_id=position.instrument_id,
    )
    if late is not None:
        raise ConflictError(
            f"{position.symbol} was traded at {late.executed_at.isoformat()}, when its {action.action_type} of "
            f"{action.ex_date} had taken effect; settle corporate actions before the fills that follow them"
        )


def _split(action: CorporateAction, position: Position, at: datetime) -> Settlement:
    before = position.signed_quantity
    position.quantity = _in_new_units(action, position.quantity)
    position.remaining_quantity = _in_new_units(action, position.remaining_quantity)
    with exact():
        if position.current_price is not None:
            position.current_price = cash(
                position.current_price * _given(action.old_shares) / _given(action.new_shares)
            )
        return _settlement(action, position, at, SettlementType.SPLIT, quantity=position.signed_quantity - before)


def _in_new_units(action: CorporateAction, quantity: Decimal) -> Decimal:
    with exact():
        restated = quantity * _given(action.new_shares)
        units = cash(restated / _given(action.old_shares))
        if units * _given(action.old_shares) != restated:
            raise ConflictError(
                f"{quantity} units split {action.new_shares} for {action.old_shares} leave a fraction that 8 decimals "
                "cannot say; sell what makes it before, as the broker does when it pays cash in lieu"
            )
        return units


def _dividend(action: CorporateAction, position: Position, at: datetime) -> Settlement:
    each = _given(action.amount)
    paid = value_of(position.signed_quantity, each, position.multiplier)
    with exact():
        position.realized_pnl += paid
    quantity = position.signed_quantity
    return _settlement(action, position, at, SettlementType.DIVIDEND, quantity=quantity, price=each, paid=paid)


def _settlement(
    action: CorporateAction,
    position: Position,
    at: datetime,
    kind: SettlementType,
    *,
    quantity: Decimal,
    price: Decimal | None = None,
    paid: Decimal = ZERO,
) -> Settlement:
    return Settlement(
        id=uuid7(),
        account_id=position.account_id,
        position_id=position.id,
        settlement_type=kind,
        quantity=quantity,
        price=price,
        cash=paid,
        occurred_at=at,
        details={"corporate_action_id": str(action.id), "ex_date": action.ex_date.isoformat()},
    )


def _given(value: Decimal | None) -> Decimal:
    """A term that the table's checks require."""
    if value is None:
        raise ConflictError("the corporate action lacks its terms")
    return value
