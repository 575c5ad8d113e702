"""Whatever breaks, a call answers rightly or raises an error of the store's own, in one line: every call, every break.

The table is the product of what can be called and what can be broken. What a call gives where it succeeds although
something is broken is not looked at here: that no answer is wrong is what `tests/olap/test_proof.py` and the oracle
machine show.
"""

import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import psycopg
import pytest

import medalion
from medalion.core.datasets import DATASETS, STOCK_BARS, STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, MedalionError, StoreError
from medalion.store.store import Store
from olap.places.base import reading, writing
from oltp.server import engine
from oltp.server.engine import libpq_of
from tests.support.lake import folder_of, pin_of, table_of
from tests.support.observed import START, instruments, rows_at, sample
from tests.support.postgres import admin_url, fresh_database

_NAME, _BARS = STOCK_QUOTES.name, STOCK_BARS.name
_LEFT = pl.DataFrame({"symbol": ["AAA"], "ts": [START + timedelta(minutes=90)]})
_HOUR = timedelta(hours=1)

Call = Callable[[Store, Path], object]

_READS: dict[str, Call] = {
    "read": lambda store, _: store.read(STOCK_QUOTES, symbols="AAA"),
    "read all": lambda store, _: store.read(STOCK_QUOTES),
    "read as of": lambda store, _: store.read(STOCK_QUOTES, as_of=START),
    "scan": lambda store, _: store.scan(STOCK_QUOTES).collect(),
    "sql": lambda store, _: store.sql(f"SELECT * FROM {_NAME}").fetchall(),
    "sql of books": lambda store, _: store.sql("SELECT * FROM assets").pl(),
    "explain": lambda store, _: store.explain(STOCK_QUOTES, symbols="AAA"),
    "quotes": lambda store, _: store.quotes("AAA"),
    "bars": lambda store, _: store.bars("AAA", "5Min"),
    "latest": lambda store, _: store.latest(STOCK_QUOTES, "AAA"),
    "latest_at": lambda store, _: store.latest_at(STOCK_QUOTES, "AAA", datetime.now(UTC)),
    "asof": lambda store, _: store.asof(_LEFT, STOCK_QUOTES),
    "market_data.newest": lambda store, _: store.market_data.newest(STOCK_QUOTES, "AAA"),
    "market_data.last": lambda store, _: store.market_data.last(STOCK_QUOTES, "AAA", 3),
    "mirror.status": lambda store, _: store.mirror.status(),
    "mirror.verify": lambda store, _: store.mirror.verify(),
    "audit.verify": lambda store, _: store.audit.verify(),
    "assets.find": lambda store, _: store.assets.find(),
    "journal.recent_logs": lambda store, _: store.journal.recent_logs(),
    "trading.get_open_positions": lambda store, _: store.trading.get_open_positions(),
    "stats.trades": lambda store, _: store.stats.trades("book"),
    "stats.equity": lambda store, _: store.stats.equity("book", START, START + timedelta(days=3)),
    "jobs.recent": lambda store, _: store.jobs.recent(),
    "rollups.list": lambda store, _: store.rollups.list(),
}
_CHANGES: dict[str, Call] = {
    "write": lambda store, _: store.write(STOCK_QUOTES, rows_at(500)),
    "delete": lambda store, _: store.delete(STOCK_QUOTES, symbols="BBB", start=START + 9 * _HOUR),
    "import_history": lambda store, _: store.import_history(STOCK_QUOTES, rows_at(700)),
    "mirror.run": lambda store, _: store.mirror.run(),
    "mirror.compact": lambda store, _: store.mirror.compact(),
    "mirror.vacuum": lambda store, _: store.mirror.vacuum(older_than=timedelta()),
    "mirror.retain": lambda store, _: store.mirror.retain([_NAME], versions_older_than=timedelta()),
    "mirror.prune": lambda store, _: store.mirror.prune(),
    "mirror.fold": lambda store, _: store.mirror.fold(older_than=timedelta(days=9)),
    "mirror.rebind": lambda store, _: store.mirror.rebind(),
    "mirror.move": lambda store, folder: store.mirror.move(folder / "moved"),
    "mirror.heal": lambda store, _: store.mirror.verify(heal=True),
    "backup": lambda store, folder: store.backup(folder / "backup"),
    "audit.anchor": lambda store, _: store.audit.anchor(),
    "rollups.keep": lambda store, _: store.rollups.keep(_BARS, timeframe="1Hour"),
    "rollups.refresh": lambda store, _: store.rollups.refresh(_BARS, timeframe="1Hour"),
    "assets.create": lambda store, _: store.assets.create(symbol="NEW", name="New", asset_type="stock"),
    "journal.log": lambda store, _: store.journal.log("info", "test", "here"),
    "trading.deposit": lambda store, _: store.trading.deposit("book", 100),
    "trading.order": lambda store, _: store.trading.execute_market_order(
        account="book", symbol="AAA", side="buy", quantity=1
    ),
    "stats.summary": lambda store, _: store.trading.get_portfolio_summary("book"),
    "jobs.run_statistics": lambda store, _: store.jobs.run_statistics("book"),
}
_CALLS = _READS | _CHANGES


def data_files(store: Store) -> list[Path]:
    return [folder_of(table_of(store, STOCK_QUOTES)) / path for path in pin_of(store).files.path]


def commits(store: Store) -> list[Path]:
    lake = folder_of(table_of(store, STOCK_QUOTES)).parent
    return sorted(lake.glob("*/_delta_log/*.json"))


@contextmanager
def changed(files: list[Path], change: Callable[[Path], object]) -> Iterator[None]:
    """The files changed, and nothing known of them."""
    assert files
    for file in files:
        change(file)
    yield


def summed_up(store: Store) -> list[Path]:
    """The checkpoints of the logs, of which no commit is left."""
    store.mirror.vacuum(older_than=timedelta())
    lake = folder_of(table_of(store, STOCK_QUOTES)).parent
    for commit in commits(store):
        commit.unlink()
    return sorted(lake.glob("*/_delta_log/*.parquet"))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def swapped(file: Path) -> None:
    """A folder in the place of a file."""
    file.unlink()
    file.mkdir()


@contextmanager
def full_disk(most: int) -> Iterator[None]:
    """No file of this process can grow beyond a few bytes; the server's can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def lake_in_the_way(store: Store) -> Iterator[None]:
    """A file where the lake was."""
    lake = folder_of(table_of(store, STOCK_QUOTES)).parent
    lake.rename(lake.with_name("away"))
    lake.write_text("in the way")
    yield


def on_server(statement: str) -> Callable[[Store], AbstractContextManager[None]]:
    """The database changed, and everybody cut off."""

    @contextmanager
    def broken(store: Store) -> Iterator[None]:
        name = store._parts.postgres.url.database
        admin = libpq_of(admin_url().render_as_string(hide_password=False))
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(statement.format(name=name).encode())
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            try:
                yield
            finally:
                connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
                connection.execute(f"ALTER DATABASE {name} RESET ALL".encode())

    return broken


_BREAKS: dict[str, Callable[[Store], AbstractContextManager[None]]] = {
    "data cut": lambda store: changed(data_files(store), cut),
    "data gone": lambda store: changed(data_files(store), Path.unlink),
    "data emptied": lambda store: changed(data_files(store), lambda file: file.write_bytes(b"")),
    "data is a folder": lambda store: changed(data_files(store), swapped),
    "log is no text": lambda store: changed(commits(store), lambda file: file.write_bytes(b"\xff\xfe\x00{" * 9)),
    "log is other json": lambda store: changed(commits(store), lambda file: file.write_text("[1, 2]\n")),
    "log cut": lambda store: changed(commits(store), cut),
    "log gone": lambda store: changed(commits(store), Path.unlink),
    "checkpoint is no parquet": lambda store: changed(summed_up(store), lambda file: file.write_bytes(b"PAR1" * 99)),
    "checkpoint cut": lambda store: changed(summed_up(store), cut),
    "disk full": lambda _: full_disk(0),
    "disk nearly full": lambda _: full_disk(2_000),
    "lake in the way": lake_in_the_way,
    "server gone": on_server("ALTER DATABASE {name} ALLOW_CONNECTIONS false"),
    "server takes no changes": on_server("ALTER DATABASE {name} SET default_transaction_read_only = on"),
}


def filled(url: str, folder: Path) -> Store:
    store = medalion.open(url, data_dir=folder, mirror_background=False)
    instruments(store, STOCK_QUOTES.kind)
    store.accounts.create(name="book", account_type="paper")
    store.trading.deposit("book", 100_000)
    for minute in range(0, 30, 10):
        store.write(STOCK_QUOTES, rows_at(minute))
        store.mirror.run()
    store.write(STOCK_BARS, sample(STOCK_BARS, 9))
    store.rollups.keep(STOCK_BARS, timeframe="30Min")
    store.delete(STOCK_QUOTES, symbols="BBB", end=START + timedelta(minutes=1))
    store.mirror.run(settle=True)
    store.audit.anchor()
    store.write(STOCK_QUOTES, rows_at(40))
    return store


@pytest.mark.long
@pytest.mark.parametrize("broken", _BREAKS)
def test_whatever_breaks_a_call_raises_the_stores_errors_in_one_line(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_CONNECT_SECONDS", 1)
    wrong: list[str] = []
    with fresh_database() as url, filled(url, tmp_path / "store") as store, _BREAKS[broken](store):
        # What one call leaves behind may keep the next from getting as far as it would.
        again = [] if broken.startswith("server") else reversed(_CALLS.items())
        # Each of them waits for a second where there is no server.
        calls = list(_CALLS.items())[:: 2 if broken == "server gone" else 1]
        for name, call in (*calls, *again):
            for dataset in DATASETS.values():
                table_of(store, dataset)._pin = None  # as a process that has just begun
            try:
                call(store, tmp_path)
            except MedalionError as error:
                if "\n" in str(error) or "\x1b" in str(error) or len(str(error)) > 2_000:
                    wrong.append(f"{name}: {error!r}")
            except BaseException as error:  # PanicException too
                wrong.append(f"{name}: {type(error).__module__}.{type(error).__qualname__}: {str(error)[:300]}")
    assert wrong == []


class PanicException(BaseException):
    """What such a library raises where it has met what it never expected."""


def test_a_library_that_gives_up_is_an_error_of_the_stores() -> None:
    with pytest.raises(CorruptLakeError, match="gave up: index out of bounds"), reading():
        raise PanicException("index out of bounds")
    with pytest.raises(StoreError, match="gave up: index out of bounds"), writing("the lake"):
        raise PanicException("index out of bounds")
