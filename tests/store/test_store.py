"""The two faces of one store: what they offer, how they open and close."""

import inspect
import os
import stat
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

import medalion
from medalion.core.datasets import STOCK_BARS
from medalion.core.errors import InputError, StoreError, StoreUnavailableError
from medalion.store.store import AsyncStore, Store
from oltp.repositories.unit_of_work import UnitOfWork
from tests.support.observed import instruments, sample
from tests.support.postgres import empty_database

CONTRACT = "read scan latest write import_history delete sql explain asof bars quotes".split()  # noqa: SIM905 - a list
SERVICES = ("trading", "market_data", "journal", "audit", "stats", "jobs", "mirror")


@pytest.mark.parametrize("name", CONTRACT)
def test_both_faces_take_the_same_arguments(name: str) -> None:
    blocking, awaitable = getattr(Store, name), getattr(AsyncStore, name)
    assert inspect.signature(blocking) == inspect.signature(awaitable)
    assert inspect.iscoroutinefunction(awaitable)
    assert not inspect.iscoroutinefunction(blocking)
    assert blocking.__doc__ == awaitable.__doc__


def test_both_faces_open_alike() -> None:
    opening = inspect.signature(medalion.open).parameters
    assert list(opening) == list(inspect.signature(medalion.open_async).parameters)
    assert list(opening) == ["url", "lake", "data_dir", "settings"]


def test_both_faces_have_every_repository_and_service(store: Store) -> None:
    for name in (*UnitOfWork.repositories(), *SERVICES):
        assert hasattr(store, name), name
        assert name in dir(store)
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        _ = store.nothing_of_the_kind  # type: ignore[attr-defined]  # which is what it says


@pytest.mark.anyio
async def test_queries_do_not_stop_the_event_loop(database_url: str, data_dir: Path) -> None:
    async with medalion.open_async(database_url, data_dir=data_dir, mirror_background=False) as store:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(0.01)
                ticks += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            relation = await store.sql("SELECT sum(a.range * b.range) FROM range(60000) AS a, range(2000) AS b")
            await to_thread.run_sync(relation.fetchall)
            tasks.cancel_scope.cancel()
        assert ticks > 0


@pytest.mark.anyio
async def test_the_awaitable_face_writes_mirrors_and_reads(database_url: str, data_dir: Path) -> None:
    async with medalion.open_async(database_url, data_dir=data_dir, mirror_background=False) as store:
        await store.assets.create(symbol="AAA", name="A", asset_type="stock")
        await store.assets.create(symbol="BBB", name="B", asset_type="stock")
        assert (await store.write(STOCK_BARS, sample(STOCK_BARS))).rows == 5
        assert (await store.mirror.run()).rows == 5
        assert (await store.read(STOCK_BARS)).height == 5
        account = await store.accounts.create(name="a", account_type="paper")
        await store.trading.deposit(account, Decimal(5))
        assert (await store.trading.get_portfolio_summary(account)).cash == 5
    with pytest.raises(StoreError, match="closed"):
        await store.read(STOCK_BARS)


def test_a_closed_store_says_so_and_closes_again(database_url: str, data_dir: Path) -> None:
    store = medalion.open(database_url, data_dir=data_dir)
    store.assets.count()
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.read(STOCK_BARS)
    with pytest.raises(StoreError, match="closed"):
        store.assets.count()


def test_one_store_serves_several_threads(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, sample(STOCK_BARS))
    found: list[int] = []

    def work() -> None:
        for _ in range(5):
            found.append(store.read(STOCK_BARS).height)
            found.append(store.assets.count() + 3)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [5] * 60


@pytest.mark.parametrize(
    "url", ["postgresql://someone:s3cret@127.0.0.1:1/none", "postgresql+psycopg://u:s3cret@/none?host=nowhere"]
)
def test_an_unreachable_server_is_named_without_its_password(data_dir: Path, url: str) -> None:
    with pytest.raises(StoreUnavailableError) as caught:
        medalion.open(url, data_dir=data_dir)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(caught.value.__cause__)


@pytest.mark.parametrize("url", ["sqlite:///x.db", "not a url", "mysql://u:s3cret@h/d"])
def test_another_database_is_refused(data_dir: Path, url: str) -> None:
    with pytest.raises(InputError) as caught:
        medalion.open(url, data_dir=data_dir)
    assert "s3cret" not in str(caught.value)


def test_a_wrong_setting_is_refused(data_dir: Path) -> None:
    with pytest.raises(InputError, match="batch_rows"):
        medalion.open(data_dir=data_dir, batch_rows=0)
    with pytest.raises(InputError, match="no_such_setting"):
        medalion.open(data_dir=data_dir, no_such_setting=1)  # type: ignore[call-arg]  # which is what it says


def test_a_folder_that_cannot_be_made_is_refused(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for data_dir, lake in ((file / "data", None), (tmp_path / "data", file / "lake")):
        with pytest.raises(InputError, match="file"):
            medalion.open(database_url, data_dir=data_dir, lake=lake)


@pytest.mark.server
def test_a_server_without_the_schema_is_refused_with_the_command_to_run(data_dir: Path) -> None:
    with empty_database() as url, pytest.raises(StoreError, match="medalion db upgrade"):
        medalion.open(url, data_dir=data_dir)


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_what_is_stored_is_private_wherever_it_lies(
    database_url: str, data_dir: Path, tmp_path: Path, umask: int
) -> None:
    """Also in a folder that others may enter, and from the first moment: each folder is closed before it is filled."""
    open_to_all = tmp_path / "shared"
    open_to_all.mkdir()
    open_to_all.chmod(0o755)
    before = os.umask(umask)
    try:
        for lake in (open_to_all, tmp_path / "new" / "place"):
            with medalion.open(database_url, data_dir=data_dir, lake=lake, mirror_background=False) as store:
                if lake == open_to_all:
                    instruments(store, STOCK_BARS.kind)
                    store.write(STOCK_BARS, sample(STOCK_BARS, start=datetime(2024, 1, 1, tzinfo=UTC)))
                    store.mirror.run()
                    store.audit.anchor()
            found = {path: stat.S_IMODE(path.stat().st_mode) for path in lake.rglob("*")}
            assert {path: mode for path, mode in found.items() if mode & 0o077} == {}
            if lake == open_to_all:
                assert {"stock_bars", "_audit_anchors"} <= {path.name for path in found}
                assert stat.S_IMODE(lake.stat().st_mode) == 0o755, "what others made is theirs"
            else:
                assert {stat.S_IMODE(place.stat().st_mode) for place in (lake, lake.parent)} == {0o700}
    finally:
        os.umask(before)


def test_tables_that_others_could_enter_are_closed_when_the_store_opens(
    store: Store, database_url: str, data_dir: Path
) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, sample(STOCK_BARS, start=datetime(2024, 1, 1, tzinfo=UTC)))
    store.mirror.run()
    table = data_dir / "lake" / "stock_bars"
    table.chmod(0o755)
    with medalion.open(database_url, data_dir=data_dir):
        assert stat.S_IMODE(table.stat().st_mode) == 0o700
