"""SQL as of a time shows the books as they were then, beside the observations of then, and the same for ever."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from polars.testing import assert_frame_equal

from medalion.core.datasets import DATASETS, STOCK_BARS
from medalion.core.errors import InputError
from medalion.store.blocking import BlockingTradingService
from medalion.store.store import Store
from oltp.repositories.past import check_past, past_table
from oltp.repositories.snapshot import entity_names, entity_table, snapshot
from tests.support.observed import START, instruments, sample
from tests.support.server import libpq
from tests.support.trading_floor import Board

MICROSECOND = timedelta(microseconds=1)
BOOKS = ("accounts", "assets", "audit_logs", "cash_movements", "fills", "positions", "settlements", "trades")
TIMELESS = (
    "rollups",
    "rollup_series",
    "application_logs",
    "error_logs",
    "mirror_batches",
    "paper_executions",
    "paper_orders",
    "performance_metrics",
    "observed_sources",
    "source_preferences",
)


@pytest.fixture
def psql(store: Store, database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(libpq(database_url), autocommit=True) as connection:
        yield connection


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def trading(store: Store, board: Board) -> BlockingTradingService:
    store.assets.create(symbol="AAPL", name="Apple")
    service = store.backtest(board)
    service.deposit(store.accounts.create(name="book"), 10_000, at=board.clock())
    return service


def clock(psql: psycopg.Connection) -> datetime:
    (moment,) = psql.execute("SELECT clock_timestamp()").fetchone() or ()
    assert isinstance(moment, datetime)
    return moment.astimezone(UTC)


def trade(trading: BlockingTradingService, board: Board, side: str, quantity: int, price: str) -> None:
    board.show("AAPL", price)
    trading.execute_market_order(account="book", symbol="AAPL", side=side, quantity=quantity, at=board.clock())


def books(store: Store, as_of: datetime | None = None) -> dict[str, Any]:
    """Every row of every table, read at once."""
    tables = ", ".join(f"(SELECT list({name} ORDER BY id) FROM {name}) AS {name}" for name in BOOKS)
    rows: dict[str, Any] = store.sql(f"SELECT {tables}", as_of=as_of).pl().row(0, named=True)
    return rows


def names(store: Store, as_of: datetime) -> list[str]:
    return [name for (name,) in store.sql("SELECT name FROM strategies ORDER BY name", as_of=as_of).fetchall()]


def test_every_table_of_the_books_is_as_it_was_after_each_trade(
    store: Store, trading: BlockingTradingService, board: Board, psql: psycopg.Connection
) -> None:
    then = {}
    for side, quantity, price in (("buy", 10, "100"), ("sell", 4, "120.5"), ("sell", 6, "90"), ("buy", 3, "80")):
        trade(trading, board, side, quantity, price)
        then[clock(psql)] = books(store)
    settle_split(store, trading, board)
    then[clock(psql)] = books(store)
    held = [[position["remaining_quantity"] for position in rows["positions"]] for rows in then.values()]
    assert held == [[10], [6], [0], [0, 3], [0, 6]]
    for moment in [*then, *list(then)[:1]]:
        assert books(store, moment) == then[moment]
        trade(trading, board, "sell", 1, "40")


def settle_split(store: Store, trading: BlockingTradingService, board: Board) -> None:
    asset, ex_date = store.assets.by_symbol("AAPL"), (board.moment + timedelta(days=3)).date()
    split = store.corporate_actions.create(
        asset_id=asset.id, action_type="split", ex_date=ex_date, new_shares=2, old_shares=1
    )
    board.moment += timedelta(days=4)
    trading.settle_corporate_action(split.id, account="book")


def test_every_table_with_a_past_has_the_columns_and_types_of_the_present(
    store: Store, psql: psycopg.Connection
) -> None:
    moment = clock(psql)
    with snapshot(store._parts.postgres) as connection:
        for name in set(entity_names()).difference(DATASETS, TIMELESS):
            assert past_table(connection, name, moment).schema == entity_table(connection, name).schema, name


def test_a_table_whose_past_is_not_kept_is_refused_by_its_name(store: Store, psql: psycopg.Connection) -> None:
    moment = clock(psql)
    for name in TIMELESS:
        with pytest.raises(InputError, match=f"of {name} only the present state is kept"):
            store.sql(f"SELECT * FROM {name}, strategies", as_of=moment)


def test_the_cash_as_of_a_time_is_what_had_been_moved(
    store: Store, trading: BlockingTradingService, board: Board, psql: psycopg.Connection
) -> None:
    query = "SELECT sum(amount) FROM cash_movements JOIN accounts ON accounts.id = account_id WHERE name = 'book'"
    then = {}
    for side, quantity, price in (("buy", 10, "100"), ("sell", 4, "120.5")):
        trade(trading, board, side, quantity, price)
        then[clock(psql)] = trading.get_portfolio_summary("book").cash
    trading.withdraw("book", 500)
    assert list(then.values()) == [Decimal(9000), Decimal(9482)]
    for moment, cash in then.items():
        assert store.sql(query, as_of=moment).fetchall() == [(cash,)]


def test_what_is_deleted_is_absent_from_then_on_until_it_is_restored(store: Store, psql: psycopg.Connection) -> None:
    before = clock(psql)
    kept = store.strategies.create(name="kept")
    made = clock(psql)
    store.strategies.create(name="later")
    store.strategies.delete(kept.id)
    deleted = clock(psql)
    store.strategies.restore(kept.id)
    store.strategies.update(kept.id, name="renamed")
    restored = clock(psql)
    psql.execute("DELETE FROM strategies WHERE id = %s", (kept.id,))
    gone = clock(psql)
    assert [names(store, moment) for moment in (before, made, deleted, restored, gone)] == [
        [],
        ["kept"],
        ["later"],
        ["later", "renamed"],
        ["later"],
    ]


def test_a_change_counts_from_the_microsecond_it_was_made(store: Store, psql: psycopg.Connection) -> None:
    made = store.strategies.create(name="first")
    store.strategies.update(made.id, name="second")
    changed = store.audit.history(made.id)[-1].action_timestamp
    assert (names(store, changed - MICROSECOND), names(store, changed)) == (["first"], ["second"])


def test_books_and_observations_of_one_time_are_joined(store: Store, psql: psycopg.Connection) -> None:
    instruments(store, STOCK_BARS.kind, ("AAA",))
    rows = sample(STOCK_BARS, 1, symbols=("AAA",))
    store.write(STOCK_BARS, rows)
    moment = clock(psql)
    store.assets.update(store.assets.by_symbol("AAA").id, name="Anew")
    store.write(STOCK_BARS, rows.with_columns(close=rows["close"] + 1))
    query = "SELECT name, close, ts FROM stock_bars JOIN assets USING (instrument_id)"
    assert store.sql(query, as_of=moment).fetchall() == [("AAA", rows["close"][0], START)]
    store.mirror.run()
    assert store.sql(query, as_of=moment).fetchall() == [("AAA", rows["close"][0], START)]
    assert store.sql(query).fetchall() == [("Anew", rows["close"][0] + 1, START)]


def test_values_come_back_exactly_from_the_record(store: Store, psql: psycopg.Connection) -> None:
    largest, smallest = Decimal("9999999999.99999999"), Decimal("0.00000001")
    store.strategies.create(
        name='"quoted"\n\\',
        configuration={"list": [1, None, {"é": "0.10"}]},
        max_position_size=largest,
        max_daily_loss=smallest,
        last_executed_at=datetime(1999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    )
    held, moment = store.sql("SELECT * FROM strategies").pl(), clock(psql)
    store.strategies.update(store.strategies.by_name('"quoted"\n\\').id, max_daily_loss=1, configuration={})
    assert_frame_equal(store.sql("SELECT * FROM strategies", as_of=moment).pl(), held)
    assert (held["max_position_size"][0], held["max_daily_loss"][0]) == (largest, smallest)


def test_a_column_that_came_later_is_null_in_what_is_older(store: Store, psql: psycopg.Connection) -> None:
    store.accounts.create(name="new", description="told")
    # The entry that the account would have from before its table had the column.
    psql.execute(
        """INSERT INTO audit_logs
               (id, action, entity_type, entity_id, version, performed_by, action_timestamp, new_state, hash)
           SELECT gen_random_uuid(), action, entity_type, gen_random_uuid(), 1, performed_by, action_timestamp,
                  new_state - 'description' || '{"name": "old", "dropped": 1}', hash
           FROM audit_logs WHERE entity_type = 'accounts'"""
    )
    query = "SELECT name, description FROM accounts ORDER BY name"
    assert store.sql(query, as_of=clock(psql)).fetchall() == [("new", "told"), ("old", None)]


def test_a_time_to_come_is_refused_and_the_settled_one_named(store: Store, psql: psycopg.Connection) -> None:
    store.strategies.create(name="known")
    before = clock(psql)
    with pytest.raises(InputError, match="not settled yet: changes of strategies") as refused:
        store.sql("SELECT * FROM strategies", as_of=before + timedelta(days=1))
    assert isinstance(refused.value.expected, datetime)
    assert before <= refused.value.expected <= clock(psql)
    assert names(store, refused.value.expected) == ["known"]


def test_a_time_is_refused_while_an_older_transaction_may_still_change_what_was_then(
    store: Store, psql: psycopg.Connection, database_url: str
) -> None:
    store.strategies.create(name="before")
    with psycopg.connect(libpq(database_url)) as late:
        late.execute("UPDATE strategies SET name = 'after'")
        moment = clock(psql)
        with pytest.raises(InputError, match="not settled yet") as refused:
            names(store, moment)
        for query in ("SELECT * FROM audit_logs", "SELECT * FROM assets, strategies"):
            with pytest.raises(InputError, match="not settled yet"):
                store.sql(query, as_of=moment)
        settled = refused.value.expected
        assert isinstance(settled, datetime)
        assert names(store, settled) == ["before"]
        late.commit()
    assert (names(store, settled), names(store, moment)) == (["before"], ["after"])


def test_a_change_that_is_stamped_and_not_entered_yet_holds_back_the_record(
    store: Store, psql: psycopg.Connection, database_url: str
) -> None:
    with psycopg.connect(libpq(database_url)) as late:
        late.execute("LOCK TABLE strategies IN ROW EXCLUSIVE MODE")
        with pytest.raises(InputError, match="changes of audit_logs"):
            store.sql("SELECT * FROM audit_logs", as_of=clock(psql))


def test_an_open_transaction_that_is_rolled_back_was_never_there(
    store: Store, psql: psycopg.Connection, database_url: str
) -> None:
    store.strategies.create(name="before")
    with psycopg.connect(libpq(database_url)) as late:
        late.execute("UPDATE strategies SET name = 'after'")
        moment = clock(psql)
        late.rollback()
    assert names(store, moment) == ["before"]


def test_a_transaction_that_reads_or_changes_other_tables_holds_nothing_back(
    store: Store, psql: psycopg.Connection, database_url: str
) -> None:
    store.strategies.create(name="before")
    store.assets.create(symbol="AAPL", name="Apple")
    with psycopg.connect(libpq(database_url)) as late:
        late.execute("SELECT * FROM strategies FOR UPDATE")
        late.execute("UPDATE assets SET name = 'Apple Inc.'")
        moment = clock(psql)
        assert names(store, moment) == ["before"]
        # Changed after it was asked for: stamped later, although the transaction is older.
        late.execute("UPDATE strategies SET name = 'after'")
        late.commit()
    assert names(store, moment) == ["before"]
    assert names(store, clock(psql)) == ["after"]


def test_a_transaction_whose_start_is_hidden_leaves_no_time_settled(
    store: Store, psql: psycopg.Connection, database_url: str
) -> None:
    store.strategies.create(name="before")
    moment = clock(psql)
    with psycopg.connect(libpq(database_url)) as late:
        psql.execute("SET ROLE pg_checkpoint")
        check_past(psql, ["strategies"], moment)
        late.execute("UPDATE strategies SET name = 'after'")
        with pytest.raises(InputError, match="its start is not shown to this user"):
            check_past(psql, ["strategies"], moment)
        check_past(psql, ["assets"], moment)
        late.commit()
    check_past(psql, ["strategies"], moment)


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(InputError, match="as_of"):
        store.sql("SELECT * FROM strategies", as_of=datetime(2024, 3, 1))  # noqa: DTZ001 - the promise
