"""A store beside other things: at a program's end, in other processes, awaited, and when something goes wrong."""

import multiprocessing
import os
import pickle
import subprocess
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from pydantic import SecretStr

import medalion
from medalion.core.datasets import STOCK_BARS
from medalion.core.errors import ConflictError, InputError, MedalionError, StoreError
from medalion.core.settings import Settings
from medalion.store.spec import StoreSpec
from medalion.store.store import Store
from tests.support.commands import ROOT
from tests.support.observed import instruments, sample

SECRET = "s3cr3t"  # noqa: S105


def program(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


OPENS = """
import sys, medalion
store = medalion.open(sys.argv[1], data_dir=sys.argv[2])
store.accounts.create(name=sys.argv[2][:50])
print(len(store.sql("SHOW TABLES").fetchall()) > 10)
"""
OPENS_AWAITED = """
import asyncio, sys, medalion
async def main():
    store = await medalion.open_async(sys.argv[1], data_dir=sys.argv[2])
    print(await store.symbols() == [])
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "ends_with"),
    [
        (OPENS, ""),
        (OPENS_AWAITED, ""),
        (OPENS + "raise ValueError('mine')", "ValueError: mine"),
        (OPENS + "sys.exit(3)", ""),
    ],
    ids=["forgotten", "awaited and forgotten", "an exception", "sys.exit"],
)
def test_a_program_that_forgets_its_store_ends_quietly(
    database_url: str, data_dir: Path, code: str, ends_with: str
) -> None:
    done = program(code, database_url, str(data_dir))
    assert done.stdout == "True\n", done.stderr
    lines = done.stderr.splitlines()
    assert (lines[-1] if lines else "") == ends_with
    assert len(lines) <= 3, done.stderr
    assert done.returncode == (3 if "exit" in code else bool(ends_with))


def counted(store: Store) -> tuple[int, int, bool]:
    """In a process of a pool: the rows there are, and whether it is a process of its own."""
    return store.read("crypto_quote_snapshots").height, os.getpid(), pickle.loads(pickle.dumps(store)) is store  # noqa: S301


def test_a_pickled_store_opens_its_own_elsewhere(store: Store) -> None:
    store.assets.create(symbol="BTC/USD", name="Bitcoin", asset_type="crypto")
    ts = pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 4), "1d", time_zone="UTC", eager=True)
    prices = dict.fromkeys(("bid_price", "bid_size", "ask_price", "ask_size"), 1)
    rows = pl.DataFrame({"ts": ts}).with_columns(
        pl.lit("BTC/USD").alias("symbol"), *(pl.lit(1).alias(p) for p in prices)
    )
    store.write("crypto_quote_snapshots", rows)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(counted, [store, store]))
    assert [(rows, is_one) for rows, _, is_one in found] == [(4, True)] * 2
    assert {pid for _, pid, _ in found} != {os.getpid()}


def test_what_is_pickled_holds_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"postgresql://bot:{SECRET}@db.example/trading"
    settings = Settings(database_url=SecretStr(f"{url}?sslpassword={SECRET}"), data_dir=tmp_path, batch_rows=7)
    sent = pickle.dumps(StoreSpec.of(settings))
    assert SECRET.encode() not in sent
    monkeypatch.delenv("MEDALION_DATABASE_URL", raising=False)
    opened = pickle.loads(sent).settings()  # noqa: S301
    assert opened.database_url.get_secret_value() == "postgresql://bot@db.example/trading"
    assert (opened.batch_rows, opened.mirror_background, opened.data_dir) == (7, False, tmp_path)
    monkeypatch.setenv("MEDALION_DATABASE_URL", url)
    assert pickle.loads(sent).settings().database_url.get_secret_value() == url  # noqa: S301
    monkeypatch.setenv("MEDALION_DATABASE_URL", f"postgresql://bot:{SECRET}@other.example/trading")
    assert "db.example" in pickle.loads(sent).settings().database_url.get_secret_value()  # noqa: S301


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_store_is_not_used_after_a_fork(store: Store) -> None:
    ends = multiprocessing.get_context("fork").Pipe()
    child = os.fork()
    if not child:
        try:
            store.symbols()
        except StoreError as error:
            ends[1].send(str(error))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert "opened before a fork" in ends[0].recv()


@pytest.mark.anyio
async def test_an_awaited_store_is_the_same_store(database_url: str, data_dir: Path) -> None:
    store = await medalion.open_async(database_url, data_dir=data_dir, mirror_background=False)
    async with store as same:
        assert same is store
        assert "stock_bars" in store.datasets
        assert (await store.coverage()).is_empty()
    with pytest.raises(StoreError, match="closed"):
        await store.symbols()


def wrongly(store: Store) -> None:
    store.bars("AAPL", "1Fortnight")


@pytest.mark.parametrize("is_debug", [False, True])
def test_an_error_shows_who_called_and_what(store: Store, monkeypatch: pytest.MonkeyPatch, is_debug: bool) -> None:
    monkeypatch.setenv("MEDALION_DEBUG", "1" if is_debug else "0")
    store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
    with pytest.raises(InputError) as wrong:
        wrongly(store)
    with pytest.raises(ConflictError) as twice:
        store.assets.create(symbol="AAPL", name="Apple", asset_type="stock")
    with pytest.raises(MedalionError) as parts:
        store.mirror.run(["stock_barz"])
    for caught in (wrong, twice, parts):
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        if is_debug:
            continue
        assert len(frames) <= 5, frames
        assert frames[-1] in ("bars", "create", "run"), frames
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    if is_debug:
        assert twice.value.__cause__ is not None
        assert len(traceback.extract_tb(twice.value.__traceback__)) > 5


def test_an_entity_can_be_read_after_a_conflict(store: Store) -> None:
    store.assets.create(symbol="AAA", name="A", asset_type="stock")
    other = store.assets.create(symbol="BBB", name="B", asset_type="stock")
    with pytest.raises(ConflictError):
        store.assets.update(other, symbol="AAA")
    assert (other.id, other.symbol, other.name) == (other.id, "BBB", "B")
    assert store.assets.update(other, name="Bee").name == "Bee"


def test_no_id_is_an_input_error(store: Store) -> None:
    for repository in (store.assets, store.accounts, store.trades, store.jobs):
        for nothing in (None, 17, ""):
            with pytest.raises(InputError, match="is no id"):
                repository.get(nothing)  # type: ignore[arg-type]


def test_one_name_is_a_list_of_one(store: Store) -> None:
    assert store.mirror.compact("stock_bars").partitions == 0
    assert store.mirror.run("stock_bars").rows == 0
    assert store.mirror.verify("stock_bars").is_empty()
    assert store.read("stock_bars", columns="close").columns == ["close"]


def test_the_card_shows_what_is_here(store: Store) -> None:
    assert "no rows yet" in store._repr_html_()
    instruments(store, STOCK_BARS.kind)
    store.write("stock_bars", sample(STOCK_BARS, 5), source="<feed>")
    shown = store._repr_html_()
    for text in ("stock_bars", "AAA", "BBB", "2024-03-01", "&lt;feed&gt;", "1Min"):
        assert text in shown
    assert "pass" not in repr(store)
    store.close()
    assert "closed" in repr(store)
    assert "closed" in store._repr_html_()
