"""Whatever is killed in the middle of its work, processes or PostgreSQL, or finds the disk full, the lake is exact.

Processes are killed at each named step, and 16 times at random moments; MEDALION_KILLS says how often instead. They are
forked from one that has imported most of what they need and opened nothing, so that each costs less than a start of an
interpreter.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from statistics import median
from threading import Thread, Timer
from typing import Any

import psycopg
import pytest

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import StoreError, StoreUnavailableError
from oltp.schema import migrate
from oltp.server.embedded import EmbeddedPostgres
from tests.machines.lake_faces import opened
from tests.machines.lake_scene import Scene
from tests.machines.lake_victim import KEYS, UPKEEP, Operation, die_at, drawn, face_of, live
from tests.support.lengths import examples
from tests.support.observed import instruments
from tests.support.programs import context
from tests.support.server import libpq
from tests.support.server_processes import await_that, postmasters, short_folder

pytestmark = pytest.mark.server

KILLS = int(os.environ.get("MEDALION_KILLS", str(examples(16))))

WRITING = Operation("write", (1, 5, 30), 0)
DELETING = Operation("delete", tuple(range(10, 20)), 0)
IMPORTING = Operation("import", (2, 11, 12, 40), 0)
STEPS: list[tuple[Operation | str, str]] = [
    (WRITING, "oltp.hot.writes:_copy done"),
    (WRITING, "oltp.hot.writes:keep_last done"),
    (DELETING, "oltp.hot.writes:keep_last done"),
    *(
        ("mirror", step)
        for step in (
            "oltp.ledger.batches:claim done",
            "olap.delta.tables:LakeTable.stage done",
            "olap.delta.tables:LakeTable.append",
            "olap.delta.tables:LakeTable.append done",
            "oltp.ledger.batches:note",
            "oltp.ledger.batches:note done",
            "oltp.ledger.batches:advance done",
        )
    ),
    *(
        (IMPORTING, step)
        for step in (
            "medalion.ingest.staging:write_file done",
            "medalion.ingest.history:exclude_writes done",
            "oltp.ledger.batches:enter_batch done",
            "olap.delta.tables:LakeTable.append",
            "olap.delta.tables:LakeTable.append done",
            "oltp.ledger.batches:note done",
        )
    ),
    ("compact", "olap.delta.compaction:write_file done"),
    ("compact", "olap.delta.tables:LakeTable.replace"),
    ("compact", "olap.delta.tables:LakeTable.replace done"),
    ("vacuum", "olap.delta.vacuum:checkpoint"),
    ("vacuum", "olap.delta.vacuum:checkpoint done"),
    ("retain", "medalion.mirror.removal:enter_removal"),
    ("retain", "medalion.mirror.removal:enter_removal done"),
    ("retain", "olap.delta.tables:LakeTable.replace done"),
    ("retain", "medalion.mirror.removal:note_removal done"),
]


@pytest.fixture
def scene(database_url: str, tmp_path: Path) -> Iterator[Scene]:
    with medalion.open(database_url, data_dir=tmp_path / "data", mirror_background=False) as store:
        instruments(store, STOCK_QUOTES.kind)
    with opened(database_url) as postgres, psycopg.connect(libpq(database_url), autocommit=True) as books:
        root = tmp_path / "lake"
        yield Scene(database_url, root, face_of(postgres, root), books)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_kill_at_any_step_leaves_each_call_done_or_not_done(scene: Scene) -> None:
    for number, (work, step) in enumerate(STEPS):
        for part in range(2):
            scene.do(Operation("write", tuple(range(part, KEYS, 3 + part)), 10 * number + part + 1))
            scene.face.mirror.run([STOCK_QUOTES])
        scene.do(Operation("write", (number, number + 1), 10 * number + 9))
        doing = replace(work, value=10 * number + 10) if isinstance(work, Operation) else work
        process = context.Process(target=die_at, args=(scene.mortal, scene.root, doing, step))
        process.start()
        scene.until_gone(process)
        said = scene.recover(doing if isinstance(doing, Operation) else None)
        if isinstance(doing, Operation):
            is_claimed = step.startswith(("olap.delta.tables:LakeTable.append", "oltp.ledger.batches:note"))
            assert said.startswith("after" if is_claimed else "before"), (work, step)
        scene.remember()
    scene.check(keeps_versions=False)


@pytest.mark.timeout(3_000)
@pytest.mark.parametrize("upkeep", [tuple(UPKEEP), tuple(set(UPKEEP) - {"retain"})], ids=["with retention", "without"])
def test_nothing_is_lost_doubled_or_half_done_wherever_a_process_was_killed(
    scene: Scene, upkeep: tuple[str, ...], record_testsuite_property: Callable[[str, object], None]
) -> None:
    chance, left, latencies = random.Random(KILLS), Counter[str](), [0.02]
    for number in range(KILLS // 2):
        hears, tells = context.Pipe(duplex=False)
        first = next(scene.values)
        given = (scene.mortal, scene.root, f"process {number}", first, tuple(sorted(upkeep)), tells)
        process = context.Process(target=live, args=given)
        process.start()
        tells.close()
        begun = _hear(scene, hears, chance.randint(1, 6), latencies)
        time.sleep(chance.uniform(0, 2) * median(latencies))
        process.kill()
        scene.until_gone(process)
        left[scene.recover(_rest(scene, hears, begun))] += 1
        scene.remember()
    for moment, times in left.items():
        record_testsuite_property(f"killed {moment}", times)
    assert left.total() == KILLS // 2
    scene.check(keeps_versions="retain" not in upkeep)


def _hear(scene: Scene, hears: Pipe, wanted: int, latencies: list[float]) -> Operation:
    """The call that was begun after so many others were done."""
    while True:
        in_flight = _heard(hears.recv())
        if not wanted:
            return in_flight
        started = time.perf_counter()
        assert _heard(hears.recv()) == in_flight
        latencies.append(time.perf_counter() - started)
        scene.book(in_flight)
        wanted -= 1


def _rest(scene: Scene, hears: Pipe, in_flight: Operation) -> Operation | None:
    """What was still told before the end; the call of which nobody knows the outcome, if any."""
    unknown: Operation | None = in_flight
    with hears:
        while True:
            try:
                op = _heard(hears.recv())
            except EOFError:
                return unknown
            if op == unknown:
                scene.book(op)
            unknown = None if op == unknown else op


def _heard(said: tuple[str, Any]) -> Operation:
    what, op = said
    assert what in ("begun", "done"), op
    assert isinstance(op, Operation)
    return op


def test_an_import_that_died_once_claimed_can_be_read_when_its_caller_has_repeated_it(scene: Scene) -> None:
    importing = Operation("import", (1, 2, 30), 1)
    process = context.Process(
        target=die_at, args=(scene.mortal, scene.root, importing, "olap.delta.tables:LakeTable.append")
    )
    process.start()
    scene.until_gone(process)
    scene.do(importing)
    assert scene.read() == scene.shelf


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk, and only on Linux")
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_fails_what_writes_to_the_lake_and_changes_nothing(scene: Scene, small_disk: Path) -> None:
    """At its first file, at a later one, or at the log: more and more pages are left free until the work is done."""
    scene.move(small_disk / "lake")
    scene.do(Operation("write", tuple(range(KEYS)), 1))
    scene.face.mirror.run([STOCK_QUOTES])
    works: tuple[Operation | str, ...] = ("mirror", Operation("import", tuple(range(5, 40)), 2), "mirror", "compact")
    for number, work in enumerate(works):
        scene.do(Operation("write", tuple(range(number, KEYS, 2)), 10 + number))
        assert _failed_until_there_was_room(scene, work, small_disk) > 0
        if isinstance(work, Operation):
            scene.book(work)
        assert scene.read() == scene.shelf
    scene.check(keeps_versions=True)


def test_a_full_disk_fails_the_first_batch_of_a_lake_like_any_other(scene: Scene, small_disk: Path) -> None:
    scene.move(small_disk / "lake")
    scene.do(Operation("write", tuple(range(KEYS)), 1))
    assert _failed_until_there_was_room(scene, "mirror", small_disk) > 0
    scene.check(keeps_versions=True)


def _failed_until_there_was_room(scene: Scene, work: Operation | str, disk: Path) -> int:
    """How often the work failed, with a page more on the disk each time; nothing was changed by it."""
    filler = disk / "filler"
    for pages in range(200):
        with filler.open("wb") as file:
            if (room := shutil.disk_usage(disk).free - pages * os.sysconf("SC_PAGE_SIZE")) > 0:
                os.posix_fallocate(file.fileno(), 0, room)
        try:
            work.perform(scene.face) if isinstance(work, Operation) else UPKEEP[work](scene.face)
        except StoreError:
            assert scene.read() == scene.shelf
        else:
            return pages
        finally:
            filler.unlink()
    raise AssertionError(f"{work} fails on a disk with room")


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server that nobody else uses."""
    place = short_folder()
    with EmbeddedPostgres.start(place / "data", report=lambda _: None) as server:
        migrate.upgrade(server.url)
        with medalion.open(server.url, data_dir=place / "store", mirror_background=False) as store:
            instruments(store, STOCK_QUOTES.kind)
        yield server
    shutil.rmtree(place)


@contextmanager
def reopened(server: EmbeddedPostgres, scene: Scene | None = None) -> Iterator[Scene]:
    """The store as the next process finds it."""
    url, root = server.url, server.data_dir.parent / "lake"
    with opened(url) as postgres, psycopg.connect(libpq(url), autocommit=True) as books:
        face = face_of(postgres, root)
        yield replace(scene, face=face, books=books) if scene else Scene(url, root, face, books)


@pytest.mark.timeout(900)
def test_what_was_acknowledged_is_there_once_however_often_postgresql_was_killed(
    own_server: EmbeddedPostgres, record_testsuite_property: Callable[[str, object], None]
) -> None:
    """While one thread writes and imports, another mirrors, compacts, prunes and vacuums."""
    chance, left = random.Random(KILLS), Counter[str]()
    scene: Scene | None = None
    for number in range(max(2, KILLS // 50)):
        with reopened(own_server, scene) as scene:
            in_flight = _until_postgresql_dies(own_server, scene, number, chance.uniform(0.05, 1))
        EmbeddedPostgres.start(own_server.data_dir, report=lambda _: None).stop()
        with reopened(own_server, scene) as scene:
            left[scene.recover(in_flight)] += 1
            scene.remember()
    for moment, times in left.items():
        record_testsuite_property(f"PostgreSQL killed {moment}", times)
    with reopened(own_server, scene) as scene:
        scene.check(keeps_versions=True)


def _until_postgresql_dies(server: EmbeddedPostgres, scene: Scene, number: int, seconds: float) -> Operation | None:
    """Work until the server is killed, some time after the first write; the call that was refused."""
    refused: list[BaseException] = []
    works = [UPKEEP[name] for name in sorted(set(UPKEEP) - {"retain"})]

    def keep() -> None:
        chance = random.Random(number)
        try:
            while True:
                chance.choice(works)(face_of(scene.face.postgres, scene.root))
        except BaseException as error:
            refused.append(error)

    keeper, (postmaster,) = Thread(target=keep), postmasters(server.data_dir)
    killer = Timer(seconds, os.kill, (postmaster, signal.SIGKILL))
    keeper.start()
    killer.start()
    chance, in_flight = random.Random(f"while {number}"), None
    try:
        for value in count(1_000 * number + 1):
            in_flight = drawn(chance, value)
            scene.do(in_flight)
    except StoreError as error:
        refused.append(error)
    keeper.join()
    await_that(lambda: not postmasters(server.data_dir))
    assert [type(error) for error in refused] == [StoreUnavailableError] * 2, refused
    return in_flight


def test_an_import_whose_commit_was_not_answered_is_there_or_not_and_stops_nothing(
    own_server: EmbeddedPostgres,
) -> None:
    """The server commits the claim while it waits for a standby, and the session is ended before it can say so."""
    importing = Operation("import", (1, 2, 30), 7)
    with reopened(own_server) as scene:
        scene.do(Operation("write", (1, 5, 9), 1))
        scene.face.mirror.run([STOCK_QUOTES])
        scene.books.execute("SET synchronous_commit = local")
        scene.books.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        scene.books.execute("SELECT pg_reload_conf()")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(importing.perform, scene.face)
            waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'"
            await_that(lambda: scene.books.execute(waiting).fetchone())
            scene.books.execute(f"SELECT pg_terminate_backend(pid) FROM ({waiting}) AS waiting")
            scene.books.execute("ALTER SYSTEM RESET synchronous_standby_names")
            scene.books.execute("SELECT pg_reload_conf()")
            with pytest.raises(StoreUnavailableError):
                answer.result(60)
        scene.recover(importing)
        importing.perform(scene.face)
        scene.shelf = importing.after(scene.shelf)
        assert scene.read() == scene.shelf
        assert scene.face.mirror.verify([STOCK_QUOTES]).rows() == []
