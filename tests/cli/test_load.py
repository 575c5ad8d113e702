"""`medalion load`: files in, exactly or not at all."""

import gzip
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from medalion.core.datasets import CRYPTO_BARS, DATASETS, OPTION_QUOTES, POLYMARKET_BOOKS, STOCK_BARS, Dataset
from medalion.core.errors import InputError
from medalion.ingest.columns import ColumnMapping
from medalion.ingest.sources import Source
from medalion.store.store import Store
from tests.support.commands import refused, run
from tests.support.observed import instruments, sample

HEADER = "Date,Open,High,Low,Close,Volume"
DAILY = (
    f"{HEADER}\n2024-01-02,187.15,188.44,183.885,185.64,82488700\n2024-01-03,184.22,185.88,183.43,184.25,5.8414500e7\n"
)
AAPL = ("--dataset", "stock_bars", "--symbol", "AAPL", "--timeframe", "1d")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STAMPS = st.integers(0, 7 * 10**15).map(lambda micros: EPOCH + timedelta(microseconds=micros))
OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@pytest.fixture
def daily(tmp_path: Path) -> Path:
    path = tmp_path / "daily.csv"
    path.write_text(DAILY)
    return path


def stamps(tmp_path: Path, *texts: str, zone: str | None = None) -> list[datetime]:
    """What the texts are as the times of a file."""
    path = tmp_path / "stamps.csv"
    path.write_text("".join(f"{text}\n" for text in ("timestamp", *texts)))
    mapped = ColumnMapping(time_zone=zone)
    (piece,) = Source(path).pieces()
    return mapped.typed(STOCK_BARS, mapped.named(STOCK_BARS, piece.frame), {})["ts"].to_list()


@pytest.mark.parametrize(
    ("dataset", "suffix"),
    [
        *((dataset, "parquet") for dataset in DATASETS.values()),
        # Lists of levels have no CSV form that can be read again.
        *((dataset, "csv") for dataset in DATASETS.values() if dataset is not POLYMARKET_BOOKS),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_what_read_writes_to_a_file_can_be_loaded_again(
    store: Store, data_dir: Path, tmp_path: Path, dataset: Dataset, suffix: str
) -> None:
    options = ("--url", store._parts.postgres.url.render_as_string(hide_password=False), "--data-dir", str(data_dir))
    instruments(store, dataset.kind)
    store.write(dataset, sample(dataset, 7))
    rows, target = store.read(dataset), tmp_path / f"rows.{suffix}"
    assert run(*options, "read", dataset.name, "--output", str(target)).exit_code == 0
    store.delete(dataset, symbols=None)
    loaded = run(*options, "load", str(target), "--dataset", dataset.name, "--source", "manual")
    assert loaded.exit_code == 0, loaded.output
    assert "7 rows" in loaded.stdout
    assert_frame_equal(store.read(dataset), rows)


def test_columns_are_found_without_regard_to_case_and_constants_added(
    own_place: tuple[str, ...], store: Store, daily: Path
) -> None:
    result = run(*own_place, "load", str(daily), *AAPL, "--create-assets")
    assert result.exit_code == 0, result.output
    assert "2 rows, 2024-01-02 to 2024-01-03" in result.stdout
    assert "created 1 assets: AAPL" in result.stderr
    rows = store.bars("AAPL", "1Day")
    assert rows["ts"].to_list() == [datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC)]
    assert rows["low"].to_list() == [Decimal("183.885"), Decimal("183.43")]
    assert rows["volume"].to_list() == [Decimal(82488700), Decimal(58414500)]
    assert rows["source"].to_list() == ["manual", "manual"]


def test_the_same_rows_again_change_nothing_and_come_back_after_a_deletion(
    own_place: tuple[str, ...], store: Store, daily: Path
) -> None:
    run(*own_place, "load", str(daily), *AAPL, "--create-assets")
    again = run(*own_place, "load", str(daily), *AAPL)
    assert (again.exit_code, "nothing was written" in again.stdout) == (0, True)
    store.delete("stock_bars", symbols="AAPL")
    assert run(*own_place, "load", str(daily), *AAPL).exit_code == 0
    assert store.bars("AAPL", "1Day").height == 2


def test_a_bad_row_leaves_nothing_behind(own_place: tuple[str, ...], store: Store, daily: Path) -> None:
    daily.write_text(f"{DAILY}2024-01-04,1.123456789,2,1,1,5\n")
    line = refused(run(*own_place, "load", str(daily), *AAPL, "--create-assets"))
    assert f"row 3 of {daily}: stock_bars.open is 1.123456789;" in line
    assert store.assets.find() == []
    assert store.read("stock_bars").is_empty()


def test_an_unknown_symbol_is_refused_with_what_to_do(own_place: tuple[str, ...], daily: Path) -> None:
    line = refused(run(*own_place, "load", str(daily), *AAPL))
    assert "'AAPL'" in line
    assert "--create-assets" in line


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (DAILY, ["--symbol", "A"], "column 'timeframe' is missing"),
        (DAILY.replace("Open", "Symbol"), ["--symbol", "A"], "a column 'symbol' of its own"),
        (DAILY.replace("Open", "Opening"), ["--symbol", "A"], "no column 'Opening'; leave it out with"),
        (DAILY.replace("Open", "close"), [], "several columns would be 'close'"),
        (DAILY.replace("Open", "Time"), [], "could both be the time"),
        (DAILY, ["--drop", "Adj Close"], "no column 'Adj Close'"),
        (DAILY, ["--rename", "Open"], "OLD=NEW"),
        (DAILY, ["--rename", "Open=ts", "--rename", "Date=ts"], "OLD=NEW"),
        (DAILY.replace("01-03", "01-03 10:00"), [], "--tz"),
        (DAILY.replace("2024-01-03", "1704240000"), ["--symbol", "A", "--timeframe", "1d"], "--time-unit"),
        (DAILY.replace("01-03", "01-03T10:00Z"), [], "with a time zone"),
        (DAILY.replace("2024-01-03", "01/03/2024"), ["--symbol", "A", "--timeframe", "1d"], "no ISO 8601"),
        (DAILY.replace("2024-01-03", "2023-02-29"), ["--symbol", "A", "--timeframe", "1d"], "not in the calendar"),
        (DAILY, ["--tz", "Mars/Olympus"], "'Mars/Olympus' is not known"),
        (DAILY.replace("187.15", "many"), ["--symbol", "A", "--timeframe", "1d"], "open is many; expected"),
        ("", [], "cannot be read"),
    ],
)
def test_a_file_that_is_not_understood_is_refused(
    own_place: tuple[str, ...], daily: Path, text: str, options: list[str], said: str
) -> None:
    daily.write_text(text)
    assert said in refused(run(*own_place, "load", str(daily), "--dataset", "stock_bars", *options))


def test_only_csv_and_parquet_that_exist_are_read(own_place: tuple[str, ...], tmp_path: Path) -> None:
    assert "neither CSV nor Parquet" in refused(run(*own_place, "load", "rows.xlsx", "--dataset", "stock_bars"))
    missing = str(tmp_path / "missing.csv")
    assert "there is no file" in refused(run(*own_place, "load", missing, "--dataset", "stock_bars"))
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(b"PAR1 and then nothing")
    assert "cannot be read" in refused(run(*own_place, "load", str(damaged), "--dataset", "stock_bars"))


def test_an_option_contract_is_not_made_of_its_symbol(own_place: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "quotes.parquet"
    sample(OPTION_QUOTES, 1).write_parquet(path)
    line = refused(run(*own_place, "load", str(path), "--dataset", OPTION_QUOTES.name, "--create-assets"))
    assert "create it first" in line


def test_columns_are_renamed_and_dropped_and_compressed_files_read(
    own_place: tuple[str, ...], store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "coins.csv.gz"
    text = "unix,pair,time,open,high,low,close,Volume BTC,vol\n1,BTCUSD,2024-01-02T00:00+01:00,1,2,1,2,1e-08,9\n"
    path.write_bytes(gzip.compress(text.encode()))
    options = ("--rename", "pair=symbol", "--rename", "Volume BTC=volume", "--drop", "unix", "--drop", "vol")
    loaded = run(
        *own_place, "load", str(path), "--dataset", "crypto_bars", "--timeframe", "1h", *options, "--create-assets"
    )
    assert loaded.exit_code == 0, loaded.output
    (row,) = store.read(CRYPTO_BARS).to_dicts()
    assert (row["symbol"], row["ts"]) == ("BTCUSD", datetime(2024, 1, 1, 23, tzinfo=UTC))
    assert row["volume"] == Decimal("1e-8")


@given(moment=STAMPS, offset=OFFSETS)
def test_a_stamp_with_an_offset_is_that_moment(
    tmp_path_factory: pytest.TempPathFactory, moment: datetime, offset: timezone
) -> None:
    aware = moment.astimezone(offset)
    texts = (
        aware.isoformat(),
        aware.isoformat(" "),
        f"{aware:%Y-%m-%d %H:%M:%S.%f%z}",
        f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z",
    )
    folder = tmp_path_factory.getbasetemp()
    assert stamps(folder, *texts) == [moment] * 4


def test_a_stamp_without_a_zone_needs_one_and_is_refused_where_clocks_change(tmp_path: Path) -> None:
    new_york = ZoneInfo("America/New_York")
    assert stamps(tmp_path, "2024-07-01 09:30", zone="America/New_York") == [
        datetime(2024, 7, 1, 9, 30, tzinfo=new_york).astimezone(UTC)
    ]
    assert stamps(tmp_path, "2024-07-01", zone="America/New_York") == [datetime(2024, 7, 1, 4, tzinfo=UTC)]
    assert stamps(tmp_path, "2024-07-01") == [datetime(2024, 7, 1, tzinfo=UTC)]
    for text, said in (("2024-03-10 02:30", "non-existent"), ("2024-11-03 01:30", "ambiguous")):
        with pytest.raises(InputError, match=said):
            stamps(tmp_path, text, zone="America/New_York")
