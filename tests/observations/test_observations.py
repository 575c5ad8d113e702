"""What is written is read back exactly, wherever it lies by then."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from medalion.core.datasets import DATASETS, STOCK_BARS, STOCK_QUOTES, Dataset
from medalion.core.errors import ConflictError, InputError, NotFoundError
from medalion.store.store import Store
from tests.support.observed import START, as_read, instruments, sample

every_dataset = pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda dataset: dataset.name)


@every_dataset
@pytest.mark.parametrize("place", ["hot", "lake", "both"])
def test_reads_back_exactly_what_was_written(store: Store, dataset: Dataset, place: str) -> None:
    ids = instruments(store, dataset.kind)
    rows = sample(dataset, 9)
    store.write(dataset, rows.head(5) if place == "both" else rows)
    if place != "hot":
        store.mirror.run()
    if place == "both":
        store.write(dataset, rows.tail(4))
    expected = as_read(dataset, rows, ids)
    assert_frame_equal(store.read(dataset), expected)
    assert_frame_equal(store.scan(dataset).collect(), expected)
    for symbol in ids:
        assert_frame_equal(store.read(dataset, symbols=symbol), expected.filter(pl.col("symbol") == symbol))


@every_dataset
def test_an_empty_read_has_the_schema(store: Store, dataset: Dataset) -> None:
    instruments(store, dataset.kind)
    assert_frame_equal(store.read(dataset), as_read(dataset, sample(dataset, 0), {}))
    store.write(dataset, sample(dataset))
    assert_frame_equal(store.read(dataset, end=START), as_read(dataset, sample(dataset, 0), {}))


@every_dataset
def test_duckdb_shows_the_same_rows(store: Store, dataset: Dataset) -> None:
    ids = instruments(store, dataset.kind)
    rows = sample(dataset, 9)
    store.write(dataset, rows.head(5))
    store.mirror.run()
    store.write(dataset, rows.tail(6))  # two of them again, so that keys must be deduplicated
    columns = ", ".join(dataset.schema.names)
    order = ", ".join((*dataset.order, "write_id", "ordinal"))
    shown = store.sql(f"SELECT {columns} FROM {dataset.name} ORDER BY {order}").pl()
    expected = as_read(dataset, rows, ids)
    assert_frame_equal(shown.cast(dict(expected.schema)), expected)


@every_dataset
@pytest.mark.parametrize("mirrored", [False, True], ids=["hot", "mirrored"])
def test_latest_is_the_last_row_of_a_read(store: Store, dataset: Dataset, mirrored: bool) -> None:
    instruments(store, dataset.kind)
    timeframe = "1Min" if dataset.has_timeframe else None
    assert store.latest(dataset, "AAA", timeframe=timeframe) is None
    store.write(dataset, sample(dataset, 9))
    if mirrored:
        store.mirror.run()
        store.mirror.prune()
    last = store.read(dataset, symbols="AAA").row(-1, named=True)
    assert store.latest(dataset, "AAA", timeframe=timeframe) == last
    assert store.latest(dataset, "AAA", timeframe=timeframe, as_of=datetime.now(UTC) - timedelta(days=1)) is None


@every_dataset
@pytest.mark.parametrize("mirrored", [False, True], ids=["hot", "mirrored"])
def test_a_correction_replaces_and_history_stays(store: Store, dataset: Dataset, mirrored: bool) -> None:
    ids = instruments(store, dataset.kind)
    rows = sample(dataset, 4)
    first = store.write(dataset, rows)
    if mirrored:
        store.mirror.run()
    name = next(c.name for c in dataset.values if str(c.type).startswith("decimal"))
    corrected = rows.with_columns(pl.lit(Decimal("0.5")).cast(rows.schema[name]).alias(name))
    second = store.write(dataset, corrected)
    assert_frame_equal(store.read(dataset), as_read(dataset, corrected, ids))
    assert_frame_equal(store.read(dataset, as_of=first.recorded_at), as_read(dataset, rows, ids))
    assert_frame_equal(store.read(dataset, as_of=second.recorded_at), as_read(dataset, corrected, ids))


@every_dataset
@pytest.mark.parametrize("mirrored", [False, True], ids=["hot", "mirrored"])
def test_deleted_rows_are_absent_and_can_be_written_again(store: Store, dataset: Dataset, mirrored: bool) -> None:
    ids = instruments(store, dataset.kind)
    timeframe = "1Min" if dataset.has_timeframe else None
    rows = sample(dataset, 6)
    store.write(dataset, rows)
    if mirrored:
        store.mirror.run()
    assert store.delete(dataset, symbols="AAA", start=START + timedelta(minutes=2)) == 2
    if mirrored:
        store.mirror.run()
    left = rows.filter((pl.col("symbol") == "BBB") | (pl.col("ts") < START + timedelta(minutes=2)))
    assert_frame_equal(store.read(dataset), as_read(dataset, left, ids))
    for _ in range(2):  # the first read repairs the last value, the second is served by it
        latest = store.latest(dataset, "AAA", timeframe=timeframe)
        assert latest is not None
        assert latest["ts"] == START
    store.write(dataset, rows)
    assert_frame_equal(store.read(dataset), as_read(dataset, rows, ids))
    assert store.latest(dataset, "AAA", timeframe=timeframe) == store.read(dataset, symbols="AAA").row(-1, named=True)


def test_a_late_row_between_the_repaired_and_the_deleted_is_the_latest(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    rows = sample(STOCK_QUOTES, 6, symbols=("AAA",))
    store.write(STOCK_QUOTES, rows)
    store.delete(STOCK_QUOTES, symbols="AAA", start=START + timedelta(minutes=3))
    assert (store.latest(STOCK_QUOTES, "AAA") or {})["ts"] == START + timedelta(minutes=2)
    late = rows.head(1).with_columns(ts=pl.lit(START + timedelta(minutes=4)).cast(rows.schema["ts"]))
    store.write(STOCK_QUOTES, late)
    assert (store.latest(STOCK_QUOTES, "AAA") or {})["ts"] == START + timedelta(minutes=4)


def test_a_repeated_idempotency_key_writes_nothing(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    first = store.write(STOCK_BARS, sample(STOCK_BARS), idempotency_key="k")
    again = store.write(STOCK_BARS, sample(STOCK_BARS), idempotency_key="k")
    assert (again.write_id, again.is_duplicate, first.is_duplicate) == (first.write_id, True, False)
    assert (again.recorded_at, again.checksum, again.rows) == (first.recorded_at, first.checksum, 5)
    assert store.read(STOCK_BARS).height == 5


def test_a_key_written_by_two_sources_is_two_rows_and_the_first_source_answers(store: Store) -> None:
    ids = instruments(store, STOCK_BARS.kind)
    rows = sample(STOCK_BARS)
    store.write(STOCK_BARS, rows, source="alpaca-iex")
    other = rows.with_columns(close=pl.col("close") + 1)
    store.write(STOCK_BARS, other, source="import")
    assert_frame_equal(store.read(STOCK_BARS), as_read(STOCK_BARS, rows, ids, source="alpaca-iex"))
    assert_frame_equal(store.read(STOCK_BARS, source="import"), as_read(STOCK_BARS, other, ids, source="import"))
    assert store.sql("SELECT count(*) FROM stock_bars_by_source").fetchall() == [(10,)]


def test_two_quotes_in_one_microsecond_are_two_rows_and_a_redelivery_is_none(store: Store) -> None:
    instruments(store, STOCK_QUOTES.kind)
    rows = sample(STOCK_QUOTES, 2, symbols=("AAA",)).drop("event_id").with_columns(ts=pl.lit(START))
    store.write(STOCK_QUOTES, rows)
    store.write(STOCK_QUOTES, rows)
    assert store.read(STOCK_QUOTES).height == 2


def test_ranges_are_half_open(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, sample(STOCK_BARS))
    for mirrored in (False, True):
        if mirrored:
            store.mirror.run()
        rows = store.read(STOCK_BARS, start=START + timedelta(minutes=1), end=START + timedelta(minutes=3))
        assert sorted(rows["ts"]) == [START + timedelta(minutes=1), START + timedelta(minutes=2)]


def test_bars_are_available_when_they_close(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    rows = sample(STOCK_BARS, 3, symbols=("AAA",))
    store.write(STOCK_BARS, rows)
    left = pl.DataFrame({"symbol": ["AAA", "AAA"], "ts": [START + timedelta(seconds=90), START]})
    joined = store.asof(left, STOCK_BARS, timeframe="1Min")
    assert joined["ts"].to_list() == left["ts"].to_list()
    assert joined["ts_right"].to_list() == [START, None]


def test_a_renamed_instrument_keeps_its_rows(store: Store) -> None:
    instruments(store, STOCK_BARS.kind, ("AAA",))
    store.write(STOCK_BARS, sample(STOCK_BARS, 2, symbols=("AAA",)))
    store.mirror.run()
    store.assets.update(store.assets.by_symbol("AAA").id, symbol="AAB")
    store.write(STOCK_BARS, sample(STOCK_BARS, 2, symbols=("AAB",), start=START + timedelta(minutes=2)))
    for _ in range(2):
        assert store.bars("AAB", "1Min")["symbol"].to_list() == ["AAA", "AAA", "AAB", "AAB"]
        store.mirror.run()
    left = pl.DataFrame({"symbol": ["AAB", None, "AAB"], "ts": [START + timedelta(minutes=1), START, None]})
    assert store.asof(left, STOCK_BARS, timeframe="1Min")["ts_right"].to_list() == [START, None, None]
    with pytest.raises(NotFoundError, match="AAB"):
        store.bars("AAA", "1Min")


def test_prices_are_restated_for_splits(store: Store) -> None:
    asset = store.assets.create(symbol="AAA", name="A", asset_type="stock")
    store.corporate_actions.create(
        asset_id=asset.id, action_type="split", ex_date=date(2024, 3, 4), new_shares=Decimal(2), old_shares=Decimal(1)
    )
    rows = (
        sample(STOCK_BARS, 2, symbols=("AAA",))
        .with_columns(timeframe=pl.lit("1Day"), close=pl.Series([Decimal("100.00000001"), Decimal(50)]))
        .with_columns(ts=pl.Series([datetime(2024, 3, 1, 5, tzinfo=UTC), datetime(2024, 3, 4, 5, tzinfo=UTC)]))
    )
    store.write(STOCK_BARS, rows)
    adjusted = store.bars("AAA", "1Day", adjust="split")
    assert adjusted["close"].to_list() == [Decimal(50), Decimal(50)]  # half of the odd unit goes to the even place
    assert adjusted["volume"][0] == 2 * rows["volume"][0]
    assert store.bars("AAA", "1Day", adjust="split", columns=["close"]).columns == ["close"]
    assert store.bars("AAA", "1Day")["close"].to_list() == rows["close"].to_list()


def test_one_frame_per_kind_of_table(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    rows = sample(STOCK_BARS)
    for frame in (rows, rows.lazy(), rows.to_arrow(), rows.to_arrow().to_batches()[0], rows.to_pandas()):
        store.write(STOCK_BARS, frame)
    assert store.read(STOCK_BARS).height == 5


BARS = sample(STOCK_BARS)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (BARS.drop("close"), "'close' is missing"),
        (BARS.with_columns(colour=1), "'colour' is unknown"),
        (BARS.with_columns(ts=pl.col("ts").dt.replace_time_zone(None)), "no time zone"),
        (BARS.with_columns(ts=pl.lit("2024-01-01")), "expected a datetime"),
        (BARS.with_columns(close=pl.lit("1.123456789")), "8 after it"),
        (BARS.with_columns(close=pl.lit(Decimal("12345678901"))), "10 digits before"),
        (BARS.with_columns(close=pl.lit(0.1) + 0.2), "8 after it"),
        (BARS.with_columns(close=pl.lit(float("nan"))), "nan"),
        (BARS.with_columns(close=pl.lit(None)), "null in row 0"),
        (BARS.with_columns(symbol=pl.lit(None, pl.String)), "null in row 0"),
        (BARS.with_columns(symbol=pl.lit(7)), "expected String"),
        (BARS.with_columns(close=pl.lit(True)), "expected numbers"),
        (BARS.with_columns(timeframe=pl.lit("1Fortnight")), "timeframe"),
        (BARS.with_columns(instrument_id=pl.lit(999)), "is not that of 'AAA'"),
        (BARS.with_columns(source=pl.lit("other")), "one source"),
        ({"symbol": ["AAA"]}, "not a frame"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(store: Store, frame: pl.DataFrame, said: str) -> None:
    instruments(store, STOCK_BARS.kind)
    with pytest.raises(InputError, match=said):
        store.write(STOCK_BARS, frame)
    assert store.read(STOCK_BARS).is_empty()
    assert store.sql("SELECT count(*) FROM mirror_batches").fetchall() == [(0,)]


def test_an_empty_frame_is_a_write_of_no_rows(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    assert store.write(STOCK_BARS, BARS.clear(), idempotency_key="k").rows == 0
    assert store.write(STOCK_BARS, BARS.clear(), idempotency_key="k").is_duplicate
    store.mirror.run()
    assert store.read(STOCK_BARS).is_empty()
    assert store.mirror.verify().is_empty()


def test_an_unknown_name_is_refused_with_the_nearest(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    with pytest.raises(NotFoundError, match="did you mean 'AAA'"):
        store.write(STOCK_BARS, BARS.with_columns(symbol=pl.lit("AAB")))
    with pytest.raises(NotFoundError, match="did you mean 'AAA'"):
        store.bars("AA", "1Day")
    with pytest.raises(NotFoundError, match="stock_bars"):
        store.read("stock_bar")
    with pytest.raises(NotFoundError, match="close"):
        store.read(STOCK_BARS, columns=["clos"])
    with pytest.raises(NotFoundError, match="stock_bars"):
        store.sql("SELECT * FROM stock_barz")


def test_times_that_cannot_be_meant_are_refused(store: Store) -> None:
    with pytest.raises(InputError, match="no time zone"):
        store.read(STOCK_BARS, start=datetime(2024, 1, 1))  # noqa: DTZ001 - the naive time is the point
    with pytest.raises(InputError, match="before start"):
        store.read(STOCK_BARS, start="2024-01-02", end="2024-01-01")
    with pytest.raises(InputError, match="not settled"):
        store.read(STOCK_BARS, as_of=datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(InputError, match="timeframe"):
        store.latest(STOCK_BARS, "AAA")


@pytest.mark.parametrize(
    "query",
    [
        "DROP TABLE trades",
        "COPY trades TO 'x.csv'",
        "ATTACH 'x.csv'",
        "SELECT 1; SELECT 2",
        "",
        "SELEC 1",
        "PRAGMA x",
    ],
)
def test_sql_runs_one_select_and_nothing_else(store: Store, query: str) -> None:
    with pytest.raises(InputError):
        store.sql(query)


@pytest.mark.parametrize(
    "query", ["SELECT * FROM read_csv('/etc/hostname')", "SELECT * FROM read_text('/etc/hostname')"]
)
def test_sql_opens_no_other_file(store: Store, query: str) -> None:
    with pytest.raises(InputError, match="disabled"):
        store.sql(query).fetchall()


def test_a_relation_gives_the_same_answer_twice(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, sample(STOCK_BARS))
    relation = store.sql("SELECT count(*), sum(close * volume) FROM stock_bars WHERE close > $least", least=1)
    first = relation.fetchall()
    store.write(STOCK_BARS, sample(STOCK_BARS, 20))
    store.mirror.run()
    store.mirror.prune()
    assert relation.fetchall() == first


def test_explain_says_who_answers(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    store.write(STOCK_BARS, sample(STOCK_BARS))
    hot = store.explain(STOCK_BARS, symbols="AAA")
    store.mirror.run()
    mirrored = store.explain(STOCK_BARS, symbols="AAA")
    assert (hot.store, hot.files, hot.hot_rows) == ("PostgreSQL", 0, 3)
    assert (mirrored.store, mirrored.engine, mirrored.files, mirrored.hot_rows) == ("lake", "polars", 1, 0)


def test_a_name_that_was_used_for_other_rows_is_refused(store: Store) -> None:
    instruments(store, STOCK_BARS.kind)
    first = store.write(STOCK_BARS, BARS, idempotency_key="k")
    assert store.write(STOCK_BARS, BARS, idempotency_key="k").write_id == first.write_id
    others = (BARS.head(4), BARS.reverse(), BARS.with_columns(volume=BARS["volume"] + 1), BARS.clear())
    for rows in others:
        with pytest.raises(ConflictError, match=r"key 'k' was used at .* others; nothing was written"):
            store.write(STOCK_BARS, rows, idempotency_key="k")
    with pytest.raises(ConflictError, match="5 rows of 'manual'"):
        store.write(STOCK_BARS, BARS, source="other", idempotency_key="k")
    assert store.read(STOCK_BARS).height == BARS.height
