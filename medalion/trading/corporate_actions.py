"""Corporate actions in the books: a split restates open positions in new shares, a dividend pays cash on them."""

from datetime import UTC, datetime, time

from medalion.core.enums import CorporateActionType
from medalion.core.errors import InputError
from medalion.core.time import EXCHANGE_ZONE
from medalion.positions.events import Dividend, SettlementEvent, Split
from medalion.positions.refold import settle
from oltp.entities.reference import CorporateAction
from oltp.entities.trading import Account, Position
from oltp.repositories.unit_of_work import UnitOfWork


def effective_at(action: CorporateAction) -> datetime:
    """The midnight in New York with which the ex-date begins, in UTC."""
    return datetime.combine(action.ex_date, time(), EXCHANGE_ZONE).astimezone(UTC)


async def settle_corporate_action(unit: UnitOfWork, action: CorporateAction, account: Account) -> list[Position]:
    """The account's positions that the action changed, with a settlement each; done before, it changes nothing.

    A split multiplies the quantities and leaves the cost basis as it is. A dividend is paid in cash on the ex-date, by
    the account for a short position, and counts as realized P&L. What was held when the ex-date began counts, also
    where it was traded since.

    Raises:
        InputError: a rename, which concerns no quantity.
        ConflictError: a position would hold a fraction of a unit that 8 decimals cannot say.
    """
    asset = await unit.assets.get(action.asset_id)
    return await unit.run(settle, {asset.instrument_id: event_of_action(action)}, account_id=account.id)


def event_of_action(action: CorporateAction) -> SettlementEvent:
    """What the action does to a holding; raises InputError for a rename."""
    at, event = effective_at(action), f"corporate-action/{action.id}"
    details = {"corporate_action_id": str(action.id), "ex_date": action.ex_date.isoformat()}
    if action.ratio is not None:
        shares = {"new_shares": str(action.new_shares), "old_shares": str(action.old_shares)}
        return Split(at=at, event=event, details=details | shares, ratio=action.ratio)
    if action.action_type is CorporateActionType.DIVIDEND and action.amount is not None:
        return Dividend(at=at, event=event, details=details, each=action.amount)
    raise InputError("a rename settles nothing", given=action.action_type, expected="split or dividend")
