"""The portfolio statistics as a job: of which accounts, and their figures as JSON."""

from dataclasses import asdict
from datetime import date, timedelta
from typing import Any

from medalion.market.lookup import account_of
from medalion.market.names import AccountLike
from medalion.statistics import PortfolioStatistics
from oltp.entities.trading import Account
from oltp.repositories.unit_of_work import UnitOfWork


async def accounts_of(unit: UnitOfWork, account: AccountLike | None) -> list[Account]:
    """The account, or every one by name; raises NotFoundError if there is no such account."""
    return await unit.accounts.find() if account is None else [await account_of(unit, account)]


def as_json(statistics: PortfolioStatistics) -> dict[str, Any]:
    """The figures for a JSON column, which keeps decimals as text; times are ISO 8601, durations in seconds."""
    return {name: _plain(value) for name, value in asdict(statistics).items()}


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case timedelta():
            return value.total_seconds()
        case date():
            return value.isoformat()
    return value
