"""SQL says which tables there are and what columns they have, and pivots; what changes anything is refused."""

import polars as pl
import pytest

from medalion.core.datasets import DATASETS, STOCK_BARS
from medalion.core.errors import InputError, NotFoundError
from medalion.store.store import Store
from oltp.repositories.snapshot import entity_names
from tests.support.observed import instruments, sample


@pytest.fixture
def stocked(store: Store) -> Store:
    instruments(store, STOCK_BARS.kind)
    store.write("stock_bars", sample(STOCK_BARS, 6))
    store.mirror.run()
    store.write("stock_bars", sample(STOCK_BARS, 2))
    return store


def names(store: Store, query: str) -> list[str]:
    found: list[str] = store.sql(query).pl().to_series().to_list()
    return found


def test_every_table_is_listed_and_described(stocked: Store) -> None:
    every = sorted([*DATASETS, *(f"{name}_by_source" for name in DATASETS), *entity_names()])
    for query in (
        "SHOW TABLES",
        "SELECT name FROM (SHOW ALL TABLES)",
        "SELECT table_name FROM information_schema.tables",
        "SELECT table_name FROM duckdb_tables()",
        "SELECT DISTINCT table_name FROM information_schema.columns",
    ):
        assert sorted(names(stocked, query)) == every, query
    shown = names(stocked, "DESCRIBE stock_bars")
    assert shown == stocked.sql("SELECT * FROM stock_bars").columns == names(stocked, "SHOW stock_bars")
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'stock_bars'"
    assert names(stocked, columns) == shown
    assert "executed_at" in names(stocked, "DESCRIBE trades")
    types = dict(stocked.sql("SELECT column_name, column_type FROM (DESCRIBE stock_bars)").fetchall())
    assert types["close"] == str(stocked.sql("SELECT close FROM stock_bars").types[0])
    with pytest.raises(NotFoundError, match="did you mean 'stock_bars'"):
        stocked.sql("DESCRIBE stock_barz")


def test_a_table_is_summarized_by_its_rows(stocked: Store) -> None:
    rows = stocked.sql("SELECT column_name, count FROM (SUMMARIZE stock_bars)").fetchall()
    assert dict(rows)["close"] == 6
    both = (
        "SELECT (SELECT count(*) FROM information_schema.tables WHERE table_name = 'trades'), count(*) FROM stock_bars"
    )
    assert stocked.sql(both).fetchall() == [(1, 6)]


@pytest.mark.parametrize(
    "query",
    [
        "PIVOT stock_bars ON symbol USING sum(close) GROUP BY timeframe",
        "/* AAA */ PIVOT stock_bars ON symbol IN ('AAA', 'BBB') USING sum(close) GROUP BY timeframe",
        "WITH wide AS (PIVOT stock_bars ON symbol USING sum(close) GROUP BY timeframe) FROM wide",
        'SELECT * FROM (PIVOT "stock_bars" ON symbol USING sum(close) GROUP BY timeframe)',
    ],
)
def test_rows_are_pivoted(stocked: Store, query: str) -> None:
    found = stocked.sql(query)
    wide = found.pl()
    assert wide.columns == ["timeframe", "AAA", "BBB"]
    sums = stocked.read("stock_bars").group_by("symbol").agg(pl.col("close").sum()).sort("symbol")["close"]
    assert [wide["AAA"][0], wide["BBB"][0]] == sums.to_list()
    assert found.pl().equals(wide)


@pytest.mark.parametrize(
    "query",
    [
        "CREATE TABLE mine AS PIVOT stock_bars ON symbol USING sum(close)",
        "COPY (PIVOT stock_bars ON symbol USING sum(close)) TO 'x.csv'",
        "WITH w AS (PIVOT stock_bars ON symbol USING sum(close)) INSERT INTO trades FROM w",
        "PIVOT stock_bars ON symbol USING sum(close); SELECT 1",
        "EXPLAIN SELECT 1",
        "CREATE TYPE mine AS ENUM ('pivot'); SELECT 1",
    ],
)
def test_what_does_more_than_read_is_refused(stocked: Store, query: str) -> None:
    with pytest.raises(InputError):
        stocked.sql(query)
