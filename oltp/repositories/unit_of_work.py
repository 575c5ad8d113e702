"""The one place that commits: everything a unit of work did, or nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, get_type_hints

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from medalion.core.errors import InputError, StoreUnavailableError
from oltp.entities.base import LiveSession
from oltp.repositories import books as of
from oltp.repositories import records
from oltp.repositories.base import Repository, give_back
from oltp.server.translation import translated, translation
from oltp.statements.prepared import Prepared

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ChangeContext:
    """On whose behalf changes are made, as the audit will tell."""

    actor: str | None = None
    correlation_id: str | None = None
    reason: str | None = None


_LENGTHS = {"actor": 200, "correlation_id": 100, "reason": 1000}
# Made once, and empty text is nobody: what is made anew for each unit would be analysed anew too.
_INTRODUCTION = Prepared(
    sa.select(
        *(sa.func.set_config(f"medalion.{name}", sa.bindparam(name, type_=sa.String()), True) for name in _LENGTHS)
    )
)
_acting: ContextVar[ChangeContext] = ContextVar("acting", default=ChangeContext())  # noqa: B039 - it is frozen


@contextmanager
def acting_as(
    actor: str | None = None, *, correlation_id: str | None = None, reason: str | None = None
) -> Iterator[ChangeContext]:
    """Within, every unit of work is audited under these; what is not given stays as it was around it."""
    given = {"actor": actor, "correlation_id": correlation_id, "reason": reason}
    for name, text in given.items():
        if text is not None and (len(text) > _LENGTHS[name] or "\x00" in text):
            raise InputError(f"{name} is longer than {_LENGTHS[name]} characters or holds a NUL", given=text)
    token = _acting.set(replace(_acting.get(), **{name: text for name, text in given.items() if text is not None}))
    try:
        yield _acting.get()
    finally:
        _acting.reset(token)


def acting() -> ChangeContext:
    """On whose behalf this task acts now."""
    return _acting.get()


def sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Sessions that hide what is deleted, and whose entities stay readable after the commit."""
    return async_sessionmaker(engine, sync_session_class=LiveSession, expire_on_commit=False)


class UnitOfWork:
    """`async with UnitOfWork(sessions) as unit:` commits on success, else nothing happened.

    Raises, on leaving as from every repository:
        ConflictError: something of that key exists, is referred to, or was changed meanwhile.
        InputError, NotFoundError, StoreUnavailableError: see `oltp.server.translation`.
    """

    session: AsyncSession
    assets: of.AssetRepository
    option_contracts: of.OptionContractRepository
    polymarket_events: of.PolymarketEventRepository
    polymarket_markets: of.PolymarketMarketRepository
    polymarket_outcomes: of.PolymarketOutcomeRepository
    corporate_actions: of.CorporateActionRepository
    accounts: of.AccountRepository
    strategies: of.StrategyRepository
    signals: of.TradingSignalRepository
    trades: of.TradeRepository
    fills: of.FillRepository
    positions: of.PositionRepository
    cash_movements: of.CashMovementRepository
    settlements: of.SettlementRepository
    application_logs: records.ApplicationLogRepository
    error_logs: records.ErrorLogRepository
    performance_metrics: records.PerformanceMetricRepository
    audit_logs: records.AuditLogRepository
    job_runs: records.JobRunRepository
    stream_sessions: records.StreamSessionRepository
    coverage_gaps: records.CoverageGapRepository

    @classmethod
    @cache
    def repositories(cls) -> dict[str, type[Repository[Any]]]:
        """Every repository by the name it has here."""
        hints = get_type_hints(cls)
        return {name: kind for name, kind in hints.items() if issubclass(kind, Repository)}

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions

    async def run(
        self, work: Callable[Concatenate[sa.Connection, P], T], /, *arguments: P.args, **named: P.kwargs
    ) -> T:
        """What `work` gives with the connection of this unit: several statements in turn, as one step of the loop.

        Raises as every repository.
        """
        with translated():
            return await self.session.run_sync(lambda session: work(session.connection(), *arguments, **named))

    async def __aenter__(self) -> Self:
        self._scope = self._sessions.begin()
        session = self.session = await self._scope.__aenter__()
        for name, repository in self.repositories().items():
            setattr(self, name, repository(session))
        try:
            await self._introduce()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with translated():
                await self._scope.__aexit__(kind, error, trace)
        except StoreUnavailableError:
            # A connection that is lost has nothing to roll back: what went wrong before is what the caller must know.
            if error is None:
                raise
        finally:
            if error is not None:
                give_back(self.session)
        if error is not None and (ours := translation(error)) is not None:
            raise ours from error

    async def _introduce(self) -> None:
        """Tell the audit triggers of this transaction who acts."""
        who = _acting.get()
        if who != ChangeContext():
            told = {name: getattr(who, name) or "" for name in _LENGTHS}
            await self.run(_INTRODUCTION.rows, told)
