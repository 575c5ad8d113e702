"""Stores that are carried away and brought back, for tests."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg

import medalion
from medalion.core.datasets import STOCK_BARS, STOCK_QUOTES
from medalion.core.settings import Settings, settings_of
from medalion.store.restoration import restore
from medalion.store.store import Store
from oltp.schema import migrate
from oltp.server.engine import libpq_of
from tests.support.observed import instruments, rows_at, sample
from tests.support.postgres import empty_database


def dying(module: str, name: str, when: str) -> None:
    """Have this process be killed before or after that part of the program does its work."""
    owner = import_module(module)
    *owners, name = name.split(".")
    for each in owners:
        owner = getattr(owner, each)
    work = getattr(owner, name)

    def last(*given: Any, **named: Any) -> None:
        if when == "after":
            work(*given, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, last)


def fill(store: Store) -> Store:
    """Quotes in the lake and others that are still hot, bars from an import, and an anchored audit."""
    instruments(store, STOCK_QUOTES.kind)
    for minute in (0, 10):
        store.write(STOCK_QUOTES, rows_at(minute))
        store.mirror.run()
    store.import_history(STOCK_BARS, sample(STOCK_BARS, 30))
    store.mirror.prune()
    store.write(STOCK_QUOTES, rows_at(20))
    store.audit.anchor()
    return store


def settings(url: str | None, data_dir: Path, lake: str | Path | None = None) -> Settings:
    return settings_of(url, lake, data_dir, {"mirror_background": False})


@contextmanager
def restored(folder: Path, place: Path, *, lake: str | None = None, link: bool = False) -> Iterator[tuple[str, Store]]:
    """The backup as a store in a database of its own, and the database's URL."""
    with empty_database() as url:
        restore(folder, settings(url, place, lake), link=link)
        with medalion.open(url, lake=lake, data_dir=place, mirror_background=False) as store:
            yield url, store


def hold(url: str, store: Store) -> None:
    """The store goes on, and is whole by every proof."""
    before = store.read(STOCK_QUOTES).height
    store.write(STOCK_QUOTES, rows_at(6_000))
    store.mirror.run()
    store.mirror.prune()
    store.audit.anchor()
    assert store.read(STOCK_QUOTES).height == before + 4
    assert store.mirror.verify().is_empty()
    assert store.audit.verify() == []
    assert migrate.check(url) == []


def sessions(url: str) -> int:
    """How many are connected to the database, but for who asks."""
    with psycopg.connect(libpq_of(url)) as books:
        statement = """SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type LIKE 'client%'"""
        row = books.execute(statement).fetchone()
    return int(row[0]) if row else 0
