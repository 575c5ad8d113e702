"""A store whose embedded server dies starts it again, and goes on: orders, writes, reads and the mirror."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

import medalion
from medalion.core.errors import StoreUnavailableError
from medalion.store.store import Store
from tests.support.programs import begun
from tests.support.server_processes import kill_all, postmasters, short_folder

pytestmark = [pytest.mark.server, pytest.mark.long, pytest.mark.timeout(600)]
KILLS = int(os.environ.get("MEDALION_OPENINGS", "5"))
NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder() -> Iterator[Path]:
    place = short_folder()
    yield place / "data"
    kill_all(place)
    shutil.rmtree(place)


def server_of(folder: Path) -> int:
    """The postmaster's pid; a process that it has just forked has its name too."""
    return int((folder / "postgres" / "postmaster.pid").read_text(encoding="utf-8").split()[0])


def quote(n: int, symbol: str = "AAA") -> pl.DataFrame:
    prices = {"bid_price": [Decimal(100)], "bid_size": [1], "ask_price": [Decimal(101)], "ask_size": [1]}
    return pl.DataFrame({"symbol": [symbol], "ts": [NOON + timedelta(seconds=n)], **prices})


class Worker(threading.Thread):
    """Repeats a call; notes what was acknowledged, what was refused, and whether the call after a refusal worked."""

    def __init__(self, call: Callable[[int], object], kills: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self.call, self.kills = call, kills
        self.done: list[int] = []
        self.refused = 0
        self.broken: list[BaseException] = []
        self.ends = threading.Event()

    def run(self) -> None:
        number, refused_at = 0, -1
        while not self.ends.is_set():
            number, kills = number + 1, self.kills()
            try:
                self.call(number)
            except StoreUnavailableError as error:
                self.refused += 1
                if refused_at == self.kills():
                    self.broken.append(error)
                refused_at = self.kills()
            except BaseException as error:
                self.broken.append(error)
                return
            else:
                self.done.append(number)
            assert kills <= self.kills()


def test_a_bot_a_mirror_and_a_reader_outlive_their_server(
    folder: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    killed = 0

    with medalion.open(data_dir=folder, mirror_interval=0.2) as store:
        store.assets.create(symbol="AAA", name="")
        store.accounts.create(name="bot")
        store.trading.deposit("bot", 1_000_000)
        store.write("stock_quote_snapshots", quote(0))

        def order(number: int) -> None:
            filled = store.trading.execute_market_order(
                account="bot", symbol="AAA", side="buy", quantity=1, client_order_id=f"order {number}"
            )
            assert filled.status == "filled"

        workers = [
            Worker(order, lambda: killed),
            Worker(lambda number: store.write("stock_quote_snapshots", quote(number)), lambda: killed),
            Worker(lambda _: store.read("stock_quote_snapshots", symbols=["AAA"]), lambda: killed),
            Worker(lambda _: store.latest("stock_quote_snapshots", "AAA"), lambda: killed),
        ]
        for worker in workers:
            worker.start()
        for _ in range(KILLS):
            before = [len(worker.done) for worker in workers]
            postmaster = server_of(folder)
            killed += 1
            os.kill(postmaster, signal.SIGKILL)
            deadline = time.monotonic() + 30
            while any(len(worker.done) < count + 3 for worker, count in zip(workers, before, strict=True)):
                assert time.monotonic() < deadline, [(len(w.done), w.refused, w.broken, w.is_alive()) for w in workers]
                time.sleep(0.02)
        for worker in workers:
            worker.ends.set()
        for worker in workers:
            worker.join()
        assert [worker.broken for worker in workers] == [[]] * len(workers)
        record_testsuite_property("refused while the server was gone", sum(worker.refused for worker in workers))
        ordered, written, _, _ = workers
        store.trading.reconcile(account="bot")
        filled = {trade.client_order_id for trade in store.trades.find(status="filled")}
        assert {f"order {number}" for number in ordered.done} <= filled
        (position,) = store.trading.get_open_positions(account="bot")
        assert position.quantity == len(filled)
        kept = set(store.read("stock_quote_snapshots")["ts"])
        assert {NOON + timedelta(seconds=number) for number in written.done} <= kept
        await_mirror(store)
    assert postmasters(folder) == []


def await_mirror(store: Store) -> None:
    """The background mirror goes on, until nothing is left to copy."""
    deadline = time.monotonic() + 30
    while store.mirror.status().filter(pl.col("dataset") == "stock_quote_snapshots")["unmirrored_rows"].item():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert store.mirror.verify().is_empty()


OTHER = """
import json, sys
from pathlib import Path
import medalion
from medalion.core.errors import StoreUnavailableError

folder, stop, told = map(Path, sys.argv[1:])
done = refused = twice = 0
was_refused = False
with medalion.open(data_dir=folder, mirror_interval=0.2) as store:
    ready()
    while not stop.exists():
        try:
            store.write("stock_quote_snapshots", store.read("stock_quote_snapshots").tail(1).drop("instrument_id"))
            assert store.accounts.find(name="bot")
        except StoreUnavailableError:
            refused, twice, was_refused = refused + 1, twice + was_refused, True
        else:
            done, was_refused = done + 1, False
        told.with_suffix(".new").write_text(json.dumps([done, refused, twice]))
        told.with_suffix(".new").rename(told)
"""


def told_by(files: list[Path]) -> list[tuple[int, int, int]]:
    """What each of the others has done, was refused, and was refused twice in a row."""
    return [json.loads(file.read_text(encoding="utf-8")) if file.exists() else (0, 0, 0) for file in files]


def test_one_of_several_processes_starts_it_and_all_go_on(folder: Path, tmp_path: Path) -> None:
    stop, told = tmp_path / "stop", [tmp_path / "one" / "told", tmp_path / "two" / "told"]
    for file in told:
        file.parent.mkdir()
    with medalion.open(data_dir=folder, mirror_background=False) as store:
        store.assets.create(symbol="AAA", name="")
        store.accounts.create(name="bot")
        store.write("stock_quote_snapshots", quote(0))
        others = [begun(OTHER, str(folder), str(stop), str(file)) for file in told]
        for _ in range(3):
            before = told_by(told)
            deadline = time.monotonic() + 60
            # Or a slow machine would still recover from the last kill, and two in a row be refused with reason.
            while any(now[0] < then[0] + 3 for now, then in zip(told_by(told), before, strict=True)):
                assert time.monotonic() < deadline, told_by(told)
                time.sleep(0.05)
            os.kill(server_of(folder), signal.SIGKILL)
        assert store.accounts.find(name="bot")
        assert store.read("stock_quote_snapshots").height >= 1
        stop.touch()
        for other in others:
            other.join(timeout=60)
            assert other.exitcode == 0
        for done, refused, twice in told_by(told):
            assert done >= 9
            assert refused <= 3
            assert twice == 0
    assert postmasters(folder) == []
