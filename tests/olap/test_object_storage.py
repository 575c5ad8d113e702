"""The lake on an S3-compatible server: the same answers as in a folder, through faults too, and no key ever shown."""

import multiprocessing
import secrets
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import medalion
from medalion.core.datasets import POLYMARKET_BOOKS, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.errors import CorruptLakeError, InputError, MedalionError, StoreUnavailableError
from medalion.core.frames import conform, polars_schema
from medalion.store.store import Store
from olap.delta.compaction import rewritten
from olap.delta.lake import Lake
from olap.places.bucket import Bucket, RequestLimits
from tests.support.commands import run
from tests.support.lake import life, pin_of, table_of, working, written
from tests.support.object_store import KEY, LACKING, SECRET, TOKEN, Kind, ObjectStore, object_store
from tests.support.observed import START, instruments, sample
from tests.support.postgres import fresh_database

pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}")

_FILE, _COMMIT = r"/period=.*\.parquet$", r"/_delta_log/\d+\.json$"


@pytest.fixture(scope="module")
def servers() -> Iterator[ObjectStore]:
    with object_store() as server:
        yield server


@pytest.fixture
def server(servers: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The server, with its keys in the environment."""
    for name, value in servers.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    servers.asked.clear()
    return servers


@pytest.fixture
def url(server: ObjectStore) -> str:
    """Where a lake of this test's own is."""
    return server.bucket()


@pytest.fixture
def opened(database_url: str, data_dir: Path, url: str) -> Iterator[Store]:
    with medalion.open(database_url, lake=url, data_dir=data_dir, mirror_background=False) as store:
        yield store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("olap.places.bucket.AT_WORK", RequestLimits(timedelta(seconds=1), timedelta(seconds=1), 1))


def assert_shows_no_key(*shown: object) -> None:
    for one in shown:
        text = "".join(traceback.format_exception(one)) if isinstance(one, BaseException) else str(one)
        assert not [key for key in (KEY, SECRET, TOKEN) if key in text]


@pytest.mark.parametrize("dataset", [STOCK_BARS, POLYMARKET_BOOKS], ids=lambda dataset: dataset.name)
def test_a_lake_in_a_bucket_answers_as_one_in_a_folder(
    dataset: Dataset, opened: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database() as other:
        with medalion.open(other, data_dir=tmp_path / "other", mirror_background=False) as local:
            expected = life(local, dataset, monkeypatch)
        found = life(opened, dataset, monkeypatch)
    assert len(found) == len(expected)
    for one, same in zip(found, expected, strict=True):
        if isinstance(same, pl.DataFrame):
            assert_frame_equal(one, same)
        else:
            assert one == same


def test_two_mirrors_on_one_bucket_copy_every_row_once(
    opened: Store, database_url: str, data_dir: Path, url: str
) -> None:
    instruments(opened, STOCK_QUOTES.kind)
    with medalion.open(database_url, lake=url, data_dir=data_dir, mirror_background=False) as second:
        stores = (opened, second)
        with working(*(lambda store=store: store.mirror.run([STOCK_QUOTES]) for store in stores)) as wrong:
            for part in range(8):
                stores[part % 2].write(
                    STOCK_QUOTES, sample(STOCK_QUOTES, 6, start=START + timedelta(minutes=10 * part))
                )
        opened.mirror.run([STOCK_QUOTES])
        assert wrong == []
        assert [store.read(STOCK_QUOTES).height for store in stores] == [48, 48]
    assert opened.mirror.verify([STOCK_QUOTES]).is_empty()
    assert int(pin_of(opened).files.rows.sum()) == 48


def test_two_compactors_on_one_bucket_keep_every_row_once(
    opened: Store, database_url: str, data_dir: Path, url: str
) -> None:
    written(opened, STOCK_QUOTES)
    expected = opened.read(STOCK_QUOTES)
    rows = int(pin_of(opened).files.rows.sum())
    store = pin_of(opened).owner
    tables = [Lake(Bucket.of(url), store=store).table(STOCK_QUOTES) for _ in range(2)]
    pins = [table.refresh() for table in tables]
    staged = [list(rewritten(table, pin.files)) for table, pin in zip(tables, pins, strict=True)]
    done = [table.replace(pin, pin.files, files) for table, pin, files in zip(tables, pins, staged, strict=True)]
    assert [one is None for one in done] == [False, True]
    assert int(pin_of(opened).files.rows.sum()) == rows
    assert_frame_equal(opened.read(STOCK_QUOTES), expected)
    assert opened.mirror.verify([STOCK_QUOTES]).is_empty()


def _contend(url: str, seed: int, batches: range, won: Any) -> None:
    """Try to commit each batch; say which were won, with their nonces."""
    table, rows = Lake(Bucket.of(url)).table(STOCK_QUOTES), stored_rows(seed)
    for batch in batches:
        nonce = secrets.randbits(62)
        with suppress(CorruptLakeError):
            table.append(table.stage(rows, {}), batch=batch, nonce=nonce)
            won.put((batch, nonce))


def stored_rows(seed: int) -> pl.DataFrame:
    """Rows as the lake holds them, of the write `seed`."""
    rows = conform(STOCK_QUOTES, sample(STOCK_QUOTES, 4), source="manual")
    return rows.with_columns(
        pl.lit(7, pl.Int64).alias("instrument_id"),
        pl.lit(seed, pl.Int64).alias("write_id"),
        pl.int_range(pl.len(), dtype=pl.Int32).alias("ordinal"),
        pl.lit(START).cast(pl.Datetime("us", "UTC")).alias("recorded_at"),
        pl.lit(value=False).alias("is_deleted"),
    ).select(pl.col(name).cast(kind) for name, kind in polars_schema(STOCK_QUOTES.stored).items())


@pytest.mark.long
def test_of_two_processes_that_commit_the_same_version_one_wins_whatever_the_environment_says(
    url: str, server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("AWS_CONDITIONAL_PUT", "disabled"), ("AWS_S3_ALLOW_UNSAFE_RENAME", "true")):
        monkeypatch.setenv(name, value)
    table, batches = Lake(Bucket.of(url)).table(STOCK_QUOTES), range(2, 5)
    table.append(table.stage(stored_rows(1), {}), batch=1, nonce=1)
    context = multiprocessing.get_context("spawn")
    won: Any = context.Queue()
    processes = [context.Process(target=_contend, args=(url, seed, batches, won)) for seed in (2, 3)]
    before = server.met
    with server.failing("PUT", _COMMIT, Kind.MEET):
        for process in processes:
            process.start()
        winners = sorted(won.get(timeout=60) for _ in batches)
        for process in processes:
            process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert server.met - before == 2 * len(batches)
    assert won.empty()
    pin = table.refresh()
    assert [batch for batch, _ in winners] == list(batches)
    assert (pin.batch, pin.nonce) == winners[-1]
    assert len(pin.files) == 1 + len(batches)


FAULTS = [
    pytest.param(method, path, kind, id=f"{kind}-{what}")
    for kind in (Kind.BUSY, Kind.CUT, Kind.LOST)
    for what, method, path in (("file", "PUT", _FILE), ("commit", "PUT", _COMMIT))
] + [pytest.param("GET", r"list-type=2", Kind.BUSY, id="busy-list")]


@pytest.mark.parametrize(("method", "path", "kind"), FAULTS)
def test_a_fault_while_rows_are_copied_loses_and_doubles_nothing(
    method: str, path: str, kind: Kind, opened: Store, server: ObjectStore, impatient: None
) -> None:
    instruments(opened, STOCK_QUOTES.kind)
    opened.write(STOCK_QUOTES, sample(STOCK_QUOTES, 6))
    opened.mirror.run([STOCK_QUOTES])
    opened.write(STOCK_QUOTES, sample(STOCK_QUOTES, 6, start=START + timedelta(minutes=20)))
    history = sample(STOCK_QUOTES, 6, start=START + timedelta(minutes=40))
    with server.failing(method, path, kind):
        for attempt in (
            lambda: opened.mirror.run([STOCK_QUOTES]),
            lambda: opened.import_history(STOCK_QUOTES, history, source="import"),
        ):
            try:
                attempt()
            except StoreUnavailableError as error:
                assert_shows_no_key(error)
            else:
                assert kind is Kind.LOST  # it was carried out, and found out to be
    opened.mirror.run([STOCK_QUOTES])
    opened.import_history(STOCK_QUOTES, history, source="import")
    assert opened.mirror.verify([STOCK_QUOTES]).is_empty()
    assert int(pin_of(opened).files.rows.sum()) == 18
    assert [opened.read(STOCK_QUOTES, source=source).height for source in ("manual", "import")] == [12, 6]
    opened.mirror.vacuum([STOCK_QUOTES], older_than=timedelta())
    assert opened.mirror.verify([STOCK_QUOTES]).is_empty()
    assert opened.sql(f"SELECT count(*) FROM {STOCK_QUOTES.name}").fetchall() == [(18,)]


@pytest.mark.parametrize("kind", [Kind.BUSY, Kind.LOST])
def test_a_fault_while_files_are_replaced_loses_and_doubles_nothing(
    kind: Kind, opened: Store, server: ObjectStore, impatient: None
) -> None:
    written(opened, STOCK_QUOTES)
    expected = opened.read(STOCK_QUOTES)
    upkeep: tuple[Callable[[], object], ...] = (
        lambda: opened.mirror.compact([STOCK_QUOTES]),
        lambda: opened.mirror.retain([STOCK_QUOTES], versions_older_than=timedelta()),
    )
    for work in upkeep:
        with server.failing("PUT", _COMMIT, kind), pytest.raises(StoreUnavailableError):
            work()
        assert_frame_equal(opened.read(STOCK_QUOTES), expected)
        assert opened.mirror.verify([STOCK_QUOTES]).is_empty()
        opened.mirror.vacuum([STOCK_QUOTES], older_than=timedelta())
        work()
        assert_frame_equal(opened.read(STOCK_QUOTES), expected)
        assert opened.mirror.verify([STOCK_QUOTES]).is_empty()


@pytest.mark.parametrize("kind", [Kind.BUSY, Kind.REFUSED, Kind.CUT, Kind.HANG])
@pytest.mark.parametrize("engine", ["polars", "duckdb"])
def test_a_read_that_the_server_fails_says_so_and_works_again_afterwards(
    engine: str,
    kind: Kind,
    opened: Store,
    server: ObjectStore,
    impatient: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medalion.observations.plan.WIDE_ROWS", 0 if engine == "duckdb" else 10**9)
    written(opened, STOCK_QUOTES)
    expected = opened.read(STOCK_QUOTES)
    works: list[Callable[[], object]] = [
        lambda: opened.read(STOCK_QUOTES),
        lambda: opened.mirror.verify([STOCK_QUOTES]),
    ]
    with server.failing("GET", _FILE, kind):
        for work in works[: 1 if kind is Kind.HANG else 2]:
            with pytest.raises(StoreUnavailableError, match=r"object store|cannot be read") as caught:
                work()
            assert_shows_no_key(caught.value)
    assert_frame_equal(opened.read(STOCK_QUOTES), expected)


def test_what_was_read_before_is_answered_without_fetching_it_again(opened: Store, server: ObjectStore) -> None:
    instruments(opened, STOCK_QUOTES.kind)
    opened.import_history(STOCK_QUOTES, sample(STOCK_QUOTES, 60))
    for fetches in (True, False):
        server.asked.clear()
        assert opened.read(STOCK_QUOTES, symbols="AAA").height == 30
        assert any(asked.path.endswith(".parquet") for asked in server.asked) is fetches


def test_a_file_that_is_gone_or_damaged_is_no_matter_of_reaching_the_server(
    opened: Store, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(opened, STOCK_QUOTES)
    place, names = Bucket.of(url).within(STOCK_QUOTES.name), pin_of(opened).files.path.tolist()
    place.remove(names[:1])
    for engine in (0, 10**9):
        monkeypatch.setattr("medalion.observations.plan.WIDE_ROWS", engine)
        with pytest.raises(CorruptLakeError):
            opened.read(STOCK_QUOTES)
    assert any("cannot be read" in problem for problem in opened.mirror.verify([STOCK_QUOTES])["problem"])


def test_two_columns_are_read_without_fetching_the_files_whole(
    opened: Store, server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    instruments(opened, STOCK_QUOTES.kind)
    many = pl.concat([sample(STOCK_QUOTES, 500, start=START + timedelta(minutes=500 * n)) for n in range(2)])
    wide = pl.concat([many.with_columns(pl.col("ts") + timedelta(microseconds=n)) for n in range(60)])
    noise = pl.int_range(pl.len()).hash(7) / 10**11
    priced = {
        name: noise.shuffle(n).round(8).cast(pl.Decimal(18, 8)) for n, name in enumerate(("bid_price", "ask_price"))
    }
    opened.import_history(STOCK_QUOTES, wide.with_columns(**priced))
    whole = int(pin_of(opened).files.bytes.sum())
    for query in (
        f"SELECT symbol, max(ts) FROM {STOCK_QUOTES.name} GROUP BY symbol",
        f"SELECT sum(bid_price) FROM {STOCK_QUOTES.name} WHERE ts < '2024-01-01'",
    ):
        server.asked.clear()
        opened.sql(query).fetchall()
        fetched = sum(asked.bytes for asked in server.asked if asked.path.endswith(".parquet"))
        # What is read is fetched to be proven, and again by DuckDB.
        assert fetched / 2 < whole / 2, (fetched, whole)


@pytest.mark.parametrize(
    ("change", "expected", "said"),
    [
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, InputError, "403 InvalidAccessKeyId"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, StoreUnavailableError, "AWS_ENDPOINT_URL and the network"),
        ({"AWS_ENDPOINT_URL": f"http://{KEY}:{SECRET}@127.0.0.1:9"}, InputError, "without keys in it"),
        ({"AWS_ALLOW_HTTP": ""}, InputError, "AWS_ALLOW_HTTP=true"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, InputError, "needs AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ENDPOINT_URL": ""}, InputError, "needs AWS_REGION"),
    ],
)
def test_a_server_that_cannot_be_used_is_refused_at_once(
    change: dict[str, str],
    expected: type[MedalionError],
    said: str,
    url: str,
    database_url: str,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(expected, match=said) as caught:
        medalion.open(database_url, lake=url, data_dir=data_dir)
    assert_shows_no_key(caught.value)
    checks = run("--url", database_url, "--data-dir", str(data_dir), "--lake", url, "doctor")
    assert checks.exit_code == 1
    assert_shows_no_key(checks.output)


@pytest.mark.parametrize(
    "lake", ["s3://no-such-bucket/lake", f"s3://{KEY}:{SECRET}@bucket/lake", "s3://", "s3://bucket/a?b", "gs://bucket"]
)
def test_a_url_that_names_no_bucket_of_the_server_is_refused(
    lake: str, server: ObjectStore, database_url: str, data_dir: Path
) -> None:
    with pytest.raises(InputError, match="bucket") as caught:
        medalion.open(database_url, lake=lake, data_dir=data_dir)
    assert_shows_no_key(caught.value)


def test_a_server_without_conditional_writes_is_refused(
    url: str, server: ObjectStore, database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.failing("PUT", r"/\.writable", Kind.UNKNOWN), pytest.raises(InputError, match="conditional writes"):
        medalion.open(database_url, lake=url, data_dir=data_dir)
    monkeypatch.setattr(server, "overwrites", True)
    with pytest.raises(InputError, match="conditional writes"):
        medalion.open(database_url, lake=url, data_dir=data_dir)


def test_nothing_that_a_store_shows_holds_a_key(
    opened: Store, url: str, database_url: str, data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written(opened, STOCK_QUOTES)
    options = ("--url", database_url, "--data-dir", str(data_dir), "--lake", url, "--wide")
    shown = [run(*options, *command).output for command in (("doctor",), ("mirror", "status"), ("mirror", "verify"))]
    assert url in shown[0]
    place = opened._parts.lake.place
    plan = opened.explain(STOCK_QUOTES)
    assert_shows_no_key(
        *shown,
        repr(opened),
        repr(opened._parts.settings),
        repr(place),
        str(place),
        repr(table_of(opened, STOCK_QUOTES).__dict__),
        repr(plan),
        opened.scan(STOCK_QUOTES).explain(),
        opened.mirror.status(),
        caplog.text,
    )


@pytest.mark.parametrize("kind", [None, Kind.BUSY, Kind.LOST])
def test_the_audit_is_anchored_in_a_bucket(kind: Kind | None, opened: Store, server: ObjectStore) -> None:
    instruments(opened, STOCK_QUOTES.kind)
    first = opened.audit.anchor()
    opened.assets.create(symbol="MORE", name="MORE", asset_type="stock")
    if kind is not None:
        with server.failing("PUT", _COMMIT, kind), pytest.raises(StoreUnavailableError):
            opened.audit.anchor()
    second = opened.audit.anchor()
    # A run whose answer was lost is there, and is only noted.
    assert (first.runs, second.runs) == (1, 0 if kind is Kind.LOST else 1)
    assert opened.audit.verify() == []
