"""What every step of trading needs: the books, who takes orders, what the market shows, and what time it is."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar

from medalion.core.enums import AccountType
from medalion.core.errors import ConflictError, InputError
from medalion.core.time import utc
from medalion.journal.metrics import Record, ignore
from medalion.market.quotes import Market
from medalion.venues.base import Venue
from oltp.entities.base import now
from oltp.entities.trading import Account
from oltp.repositories.unit_of_work import UnitOfWork

_ATTEMPTS = 4
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Desk:
    """Units of work over the books, a venue for each type of account, the market, a clock, and where figures go."""

    units: Callable[[], UnitOfWork]
    venues: Mapping[AccountType, Venue]
    market: Market
    clock: Callable[[], datetime] = now
    record: Record = ignore

    @classmethod
    def of(
        cls,
        units: Callable[[], UnitOfWork],
        venue: Venue | Mapping[AccountType, Venue],
        market: Market,
        clock: Callable[[], datetime] = now,
        record: Record = ignore,
    ) -> Self:
        """The desk whose `venue` takes every account's orders, or is a mapping with one for each type of account."""
        venues = venue if isinstance(venue, Mapping) else dict.fromkeys(AccountType, venue)
        return cls(units, venues, market, clock, record)

    def at(self, moment: datetime | None) -> datetime:
        """That time in UTC, by default now; raises InputError for anything but an aware datetime."""
        if moment is None:
            return self.clock()
        if not isinstance(moment, datetime):
            raise InputError(f"at is {moment!r}; give an aware datetime", given=moment, expected="datetime")
        return utc(moment, name="at")

    def venue_of(self, account: Account) -> Venue:
        """Who takes the account's orders; raises InputError where nobody does."""
        try:
            return self.venues[account.account_type]
        except KeyError:
            known = ", ".join(sorted(self.venues))
            raise InputError(
                f"no venue takes orders of {account.account_type} accounts such as {account.name!r}; only of {known}",
                given=account.account_type,
                expected=known,
            ) from None


async def retrying(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` gives; done again, a few times, where it lost a race that it may win then."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return await work()
        except ConflictError as error:
            if not error.retryable:
                raise
    return await work()
