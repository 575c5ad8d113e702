"""A store on a read replica answers as of what it has replayed, waits for what the lake holds, and takes nothing.

The replica is a real one, made by pg_basebackup of a server of the tests' own and fed through streaming replication.
"""

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import STOCK_QUOTES
from medalion.core.errors import CorruptLakeError, StoreError, StoreUnavailableError
from medalion.observations import selection
from medalion.store.store import Store
from oltp.server.embedded import EmbeddedPostgres
from oltp.server.engine import Postgres
from oltp.server.place import binaries, locate, run
from tests.support.observed import START, instruments, sample

pytestmark = pytest.mark.server


@contextmanager
def replicated() -> Iterator[tuple[str, str, Path]]:
    """URLs of a primary and of its replica, and a folder for the lake that both share."""
    folder = Path(tempfile.mkdtemp(prefix="medalion-replica-"))
    folder.chmod(0o755)
    try:
        with medalion.open(data_dir=folder / "primary", mirror_background=False) as store:
            server = store._parts.embedded
            assert server is not None
            place = locate(folder / "primary")
            copy = folder / "replica" / "postgres"
            copy.parent.mkdir(mode=0o700)
            if place.user is not None:
                copy.parent.chmod(0o755)
                copy.mkdir(mode=0o700)
                os.chown(copy, place.user.uid, place.user.gid)
            made = run(
                [
                    str(binaries(place.user) / "pg_basebackup"),
                    "--wal-method=stream",
                    "--checkpoint=fast",
                    "--write-recovery-conf",
                    f"--pgdata={copy}",
                    f"--dbname={Postgres(server.url).libpq}",
                ],
                place.user,
            )
            assert made.returncode == 0, made.stdout
            for left in copy.glob(".s.PGSQL*"):  # the primary's socket lies in its folder
                left.unlink()
            with EmbeddedPostgres.start(folder / "replica") as replica:
                yield server.url, replica.url, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[str, str, Path]]:
    with replicated() as both:
        yield both


@pytest.fixture
def primary(servers: tuple[str, str, Path], data_dir: Path) -> Iterator[Store]:
    with medalion.open(servers[0], data_dir=data_dir, lake=servers[2] / "lake", mirror_background=False) as store:
        yield store


@pytest.fixture
def replica(servers: tuple[str, str, Path], tmp_path: Path) -> Iterator[Store]:
    with medalion.open(servers[1], data_dir=tmp_path / "replica", lake=servers[2] / "lake") as store:
        yield store


@contextmanager
def paused(url: str) -> Iterator[None]:
    """The replica replays nothing meanwhile."""
    with psycopg.connect(Postgres(url).libpq, autocommit=True) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        while connection.execute("SELECT pg_get_wal_replay_pause_state()").fetchone() != ("paused",):
            time.sleep(0.01)
        try:
            yield
        finally:
            connection.execute("SELECT pg_wal_replay_resume()")


def catch_up(servers: tuple[str, str, Path]) -> None:
    with (
        psycopg.connect(Postgres(servers[0]).libpq, autocommit=True) as primary,
        psycopg.connect(Postgres(servers[1]).libpq, autocommit=True) as replica,
    ):
        (target,) = primary.execute("SELECT pg_current_wal_lsn()").fetchone() or (None,)
        while replica.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (target,)).fetchone() != (True,):
            time.sleep(0.01)


@pytest.mark.timeout(300)  # two servers are started on a machine that may be busy
def test_a_replica_answers_like_the_primary_and_takes_nothing(
    servers: tuple[str, str, Path], primary: Store, replica: Store
) -> None:
    instruments(primary, STOCK_QUOTES.kind)
    for minute in (0, 10, 20):
        primary.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4, start=START + timedelta(minutes=minute)))
        if minute < 20:
            primary.mirror.run([STOCK_QUOTES], settle=True)
    primary.mirror.prune()
    primary.delete(STOCK_QUOTES, symbols="BBB", start=START + timedelta(minutes=21))
    catch_up(servers)
    settled = primary.mirror.status([STOCK_QUOTES])["settled"].item()
    query = "SELECT * FROM stock_quote_snapshots ORDER BY symbol, ts"
    assert_frame_equal(replica.read(STOCK_QUOTES), primary.read(STOCK_QUOTES))
    assert_frame_equal(replica.read(STOCK_QUOTES, as_of=settled), primary.read(STOCK_QUOTES, as_of=settled))
    assert_frame_equal(replica.sql(query).pl(), primary.sql(query).pl())
    assert_frame_equal(replica.scan(STOCK_QUOTES).collect(), primary.scan(STOCK_QUOTES).collect())
    for symbol in ("AAA", "BBB"):  # the latest of BBB was deleted: its entry is stale, and cannot be repaired there
        assert replica.latest(STOCK_QUOTES, symbol) == primary.latest(STOCK_QUOTES, symbol)
    assert not any(thread.name.startswith("medalion-mirror") for thread in threading.enumerate())
    with pytest.raises(StoreError, match="read replica"):
        replica.write(STOCK_QUOTES, sample(STOCK_QUOTES))
    with pytest.raises(StoreError, match="read replica"):
        replica.assets.create(symbol="NEW", name="N", asset_type="stock")


@pytest.mark.timeout(300)
def test_a_replica_waits_for_what_the_lake_holds_already(
    servers: tuple[str, str, Path], primary: Store, replica: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbol = ("LAG",)
    instruments(primary, STOCK_QUOTES.kind, symbol)
    primary.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4, symbols=symbol))
    primary.mirror.run([STOCK_QUOTES])
    catch_up(servers)
    assert replica.read(STOCK_QUOTES, symbols="LAG").height == 4
    read: list[int] = []
    with paused(servers[1]):
        primary.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4, symbols=symbol, start=START + timedelta(minutes=10)))
        assert replica.read(STOCK_QUOTES, symbols="LAG").height == 4  # it does not know of the write yet
        primary.mirror.run([STOCK_QUOTES])
        primary.mirror.prune()
        replica._parts.lake.table(STOCK_QUOTES).refresh()  # its pin is ahead of its books now
        monkeypatch.setattr(selection, "_REPLICA_SECONDS", 0.2)
        with pytest.raises(StoreUnavailableError, match="has not replayed batch"):
            replica.read(STOCK_QUOTES, symbols="LAG")
        with pytest.raises(StoreUnavailableError, match="has not replayed batch"):
            replica.sql("SELECT * FROM stock_quote_snapshots")
        monkeypatch.setattr(selection, "_REPLICA_SECONDS", 60.0)
        waiting = threading.Thread(target=lambda: read.append(replica.read(STOCK_QUOTES, symbols="LAG").height))
        waiting.start()
    waiting.join()
    assert read == [8]


@pytest.mark.timeout(300)
def test_a_promoted_replica_that_lost_commits_is_kept_from_writing_until_it_is_bound(tmp_path: Path) -> None:
    with replicated() as servers:
        lake = servers[2] / "lake"
        with medalion.open(servers[0], data_dir=tmp_path / "a", lake=lake, mirror_background=False) as primary:
            instruments(primary, STOCK_QUOTES.kind)
            primary.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4))
            primary.mirror.run([STOCK_QUOTES])
            catch_up(servers)
            with psycopg.connect(Postgres(servers[1]).libpq, autocommit=True) as standby:
                standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
                standby.execute("SELECT pg_reload_conf()")
                while standby.execute("SELECT count(*) FROM pg_stat_wal_receiver").fetchone() != (0,):
                    time.sleep(0.01)
                primary.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4, start=START + timedelta(minutes=10)))
                primary.mirror.run([STOCK_QUOTES])
                expected = primary.read(STOCK_QUOTES)
                with medalion.open(servers[1], data_dir=tmp_path / "b", lake=lake, mirror_background=False) as other:
                    standby.execute("SELECT pg_promote()")
                    with pytest.raises(CorruptLakeError, match="rebind"):
                        other.write(STOCK_QUOTES, sample(STOCK_QUOTES, start=START + timedelta(minutes=20)))
                    other.mirror.rebind()
                    assert_frame_equal(other.read(STOCK_QUOTES), expected)
                    other.write(STOCK_QUOTES, sample(STOCK_QUOTES, 4, start=START + timedelta(minutes=20)))
                    other.mirror.run()
                    assert other.read(STOCK_QUOTES).height == 12
                    assert other.mirror.verify().is_empty()
            # The old primary comes back, and finds the lake to be another's.
            with pytest.raises(CorruptLakeError, match="rebind"):
                primary.mirror.run()
