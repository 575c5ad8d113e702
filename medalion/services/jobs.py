"""store.jobs: runs a batch job and keeps the run with what it read and found, also when it fails; finds runs."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import date, datetime, timedelta
from importlib.metadata import version
from typing import Any
from uuid import UUID

import anyio
import polars as pl
from anyio import to_thread

from medalion.core.datasets import Dataset
from medalion.core.enums import JobStatus
from medalion.core.time import Instant, TimeRange, utc
from medalion.market.lookup import account_of
from medalion.market.names import AccountLike
from medalion.observations.selection import check_settled
from medalion.services.statistics import DATASETS, PortfolioStatistics, Statistics
from olap.delta.lake import Lake
from oltp.entities.base import now
from oltp.entities.operations import JobRun
from oltp.entities.trading import Account
from oltp.ledger.batches import settle
from oltp.repositories.unit_of_work import UnitOfWork
from oltp.server.engine import Connection, Postgres


class Jobs:
    """Starts batch jobs, and lists and shows their runs."""

    def __init__(self, units: Callable[[], UnitOfWork], statistics: Statistics, postgres: Postgres, lake: Lake) -> None:
        self._units = units
        self._statistics = statistics
        self._postgres = postgres
        self._lake = lake

    async def run_statistics(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        account: AccountLike | None = None,
        risk_free: float = 0.0,
        as_of: Instant | None = None,
    ) -> JobRun:
        """The finished run of the portfolio statistics over `[start, end)`: of one account, by default of every one.

        `results` has each account's figures, decimals as text. `inputs` says what was read: per dataset the lake's
        batch and the last write, and for each account a digest of its books. Prices are read as of one settled time, by
        default the newest. Runs with the same parameters and inputs have the same results; with `as_of` an earlier
        run's prices are read again.

        Raises:
            NotFoundError: there is no such account; this and every other failure is kept with the run too.
            InputError: a naive time, `end` before `start`, or an `as_of` that is not settled.
        """
        during = TimeRange.of(start, end)
        async with self._units() as unit:
            accounts = await _accounts(unit, account)
        parameters = {
            "start": during.start,
            "end": during.end,
            "accounts": [found.name for found in accounts],
            "risk_free": risk_free,
        }
        async with self._kept("portfolio_statistics", parameters) as run:
            moment, datasets = await to_thread.run_sync(
                _pinned, self._postgres, self._lake, DATASETS, None if as_of is None else utc(as_of, name="as_of")
            )
            results = {
                found.name: await self._statistics.summary(
                    found, during.start, during.end, risk_free=risk_free, as_of=moment
                )
                for found in accounts
            }
            books = {name: result.books for name, result in results.items()}
            run["inputs"] = {"as_of": moment, "datasets": datasets, "books": books, "code": _code_versions()}
            run["results"] = {name: _as_json(result) for name, result in results.items()}
        return await self.get(run["id"])

    async def get(self, run: UUID | str) -> JobRun:
        """The run of that id; raises NotFoundError if there is none."""
        async with self._units() as unit:
            return await unit.job_runs.get(run)

    async def recent(self, count: int = 20, *, job: str | None = None) -> list[JobRun]:
        """The last `count` runs, newest first; of one job if given."""
        async with self._units() as unit:
            return await unit.job_runs.find(*([] if job is None else [JobRun.job == job]), limit=count)

    @asynccontextmanager
    async def _kept(self, job: str, parameters: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The run's `id`; what is added to it, `inputs` and `results`, is kept with the run."""
        async with self._units() as unit:
            run = await unit.job_runs.create(job=job, parameters=parameters)
        found: dict[str, Any] = {"id": run.id}
        try:
            yield found
            outcome = {"status": JobStatus.SUCCEEDED, "inputs": found["inputs"], "results": found["results"]}
        except BaseException as error:
            outcome = {"status": JobStatus.FAILED, "error": f"{type(error).__name__}: {error}".replace("\x00", "�")}
            raise
        finally:
            # A run that is cancelled says so, and is not found running for ever.
            with anyio.CancelScope(shield=True):
                async with self._units() as unit:
                    await unit.job_runs.update(run.id, finished_at=now(), **outcome)


def _pinned(
    postgres: Postgres, lake: Lake, datasets: Sequence[Dataset], as_of: datetime | None
) -> tuple[datetime, dict[str, Any]]:
    """A time up to which every dataset is settled, `as_of` if given, and what each dataset consists of then.

    Reads as of that time give the same answer for ever. `last_write` is the newest write in it: equal numbers mean
    equal rows, wherever they lie; `batch`, `nonce` and `version` say where the lake stood.

    Raises:
        InputError: `as_of` is not settled.
    """
    with postgres.connection() as connection:
        moment = min(settle(connection, dataset) for dataset in datasets) if as_of is None else as_of
    if as_of is not None:
        for dataset in datasets:
            check_settled(postgres, dataset, as_of)
    with postgres.connection() as connection:
        return moment, {dataset.name: _state(connection, lake, dataset, moment) for dataset in datasets}


def _state(connection: Connection, lake: Lake, dataset: Dataset, moment: datetime) -> dict[str, Any]:
    pin = lake.table(dataset).refresh()
    row = connection.execute(
        "SELECT max(id) FROM writes WHERE dataset = %s AND recorded_at <= %s", (dataset.name, moment)
    ).fetchone()
    return {"last_write": row and row[0], "batch": pin.batch, "nonce": pin.nonce, "version": pin.version}


def _code_versions() -> dict[str, str]:
    """The versions of what computed the results."""
    return {"medalion": version("medalion"), "polars": pl.__version__}


async def _accounts(unit: UnitOfWork, account: AccountLike | None) -> list[Account]:
    """The account, or every one by name; raises NotFoundError if there is no such account."""
    return await unit.accounts.find() if account is None else [await account_of(unit, account)]


def _as_json(statistics: PortfolioStatistics) -> dict[str, Any]:
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
