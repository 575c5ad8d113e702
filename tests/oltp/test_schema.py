"""The schema in the database is the one the mapped classes declare, and it keeps its rules against any client."""

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from medalion.core.datasets import DATASETS
from medalion.core.errors import StoreUnavailableError
from oltp.entities.base import Base, uuid7
from oltp.schema import migrate, revision
from oltp.server.engine import parse_url
from tests.support.postgres import admin_url, empty_database, fresh_database
from tests.support.server import libpq

Client = psycopg.Connection[Any]


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with fresh_database() as made:
        yield made


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """A client that knows nothing of the mapped classes, as psql."""
    with connect(url) as connection:
        yield connection


def connect(url: str) -> Client:
    return psycopg.connect(libpq(url), autocommit=True)


def one(client: Client, query: str, *values: object) -> Any:
    row = client.execute(query.encode(), values).fetchone()
    assert row is not None
    return row[0]


def add_asset(client: Client, symbol: str = "AAPL", asset_type: str = "stock") -> UUID:
    return UUID(
        str(
            one(
                client,
                "INSERT INTO assets (id, symbol, name, asset_type, asset_class, exchange, is_active, is_tradable,"
                " is_fractionable, min_order_quantity)"
                " VALUES (%s, %s, 'name', %s, '', '', true, true, false, 1) RETURNING id",
                uuid7(),
                symbol,
                asset_type,
            )
        )
    )


def add_contract(client: Client, asset: UUID, symbol: str = "AAPL240621C00190000") -> UUID:
    return UUID(
        str(
            one(
                client,
                "INSERT INTO option_contracts (id, asset_id, symbol, underlying_symbol, status, is_tradable,"
                " expiration_date, option_type, option_style, strike_price, multiplier)"
                " VALUES (%s, %s, %s, 'AAPL', 'active', true, '2024-06-21', 'call', 'american', 190, 100) RETURNING id",
                uuid7(),
                asset,
                symbol,
            )
        )
    )


def hide(client: Client, table: str, entity: UUID) -> None:
    statement = f"UPDATE {table} SET is_deleted = true, deleted_at = now() WHERE id = %s"
    client.execute(statement.encode(), (entity,))


def audit(client: Client, entity: UUID) -> list[Any]:
    return client.execute(
        "SELECT version, action, performed_by, reason, changes, previous_state, new_state FROM audit_logs"
        " WHERE entity_id = %s ORDER BY version",
        (entity,),
    ).fetchall()


@pytest.mark.server
def test_an_empty_database_is_upgraded_downgraded_and_upgraded_again_without_a_difference() -> None:
    with empty_database() as url:
        assert migrate.current(url) is None
        assert any(f"expected {revision.head()}" in line for line in migrate.check(url))
        migrate.upgrade(url)
        assert migrate.check(url) == []
        migrate.downgrade(url)
        with connect(url) as client:
            left = client.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            ).fetchall()
        assert {name for (name,) in left} == {"alembic_version", "alembic_version_pkc"}
        migrate.upgrade(url)
        assert (migrate.current(url), migrate.check(url)) == (revision.head(), [])


@pytest.mark.server
def test_processes_that_open_a_new_database_at_once_create_it_once() -> None:
    with empty_database() as url, ThreadPoolExecutor(3) as pool:
        list(pool.map(migrate.upgrade, [url] * 3))
        assert migrate.check(url) == []


@pytest.mark.server
def test_the_offline_script_creates_the_same_schema() -> None:
    with empty_database() as url:
        with connect(url) as client:
            client.execute(migrate.script().encode())
        assert (migrate.current(url), migrate.check(url)) == (revision.head(), [])


def test_migrations_and_mapped_classes_agree_on_every_column_index_and_constraint(url: str) -> None:
    with empty_database() as other:
        engine = sa.create_engine(parse_url(other), poolclass=sa.NullPool)
        Base.metadata.create_all(engine)
        migrated, declared = _catalogue(url), _catalogue(other)
    assert {kind: migrated[kind] ^ declared[kind] for kind in migrated} == {kind: set() for kind in migrated}
    assert all(migrated.values())


def _catalogue(url: str) -> dict[str, set[Any]]:
    tables = list(Base.metadata.tables)
    with connect(url) as client:
        return {
            "columns": set(
                client.execute(
                    "SELECT table_name, column_name, data_type, character_maximum_length, numeric_precision,"
                    " numeric_scale, is_nullable, column_default FROM information_schema.columns"
                    " WHERE table_name = ANY(%s)",
                    (tables,),
                )
            ),
            "indexes": set(client.execute("SELECT indexdef FROM pg_indexes WHERE tablename = ANY(%s)", (tables,))),
            "constraints": set(
                client.execute(
                    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
                    " WHERE conrelid::regclass::text = ANY(%s)",
                    (tables,),
                )
            ),
        }


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("ALTER TABLE trades DISABLE TRIGGER medalion_audit", "trigger medalion_audit on trades is switched off"),
        ("DROP TRIGGER medalion_restrict ON assets", "trigger medalion_restrict on assets is missing"),
        ("DROP VIEW instruments", "instruments is missing"),
        ("DROP INDEX ix_trades_symbol", "add index"),
        ("ALTER TABLE trades DROP CONSTRAINT ck_trades_quantity", "check ck_trades_quantity on trades is missing"),
        ("ALTER TABLE trades ALTER quantity TYPE numeric(20, 8)", "modify type"),
        (
            "ALTER TABLE trades DROP CONSTRAINT ck_trades_tradeside,"
            " ADD CONSTRAINT ck_trades_tradeside CHECK (side IN ('buy', 'hold'))",
            "trades.side allows ['buy', 'hold'], expected ['buy', 'sell']",
        ),
    ],
)
def test_the_check_names_what_differs(client: Client, url: str, damage: str, line: str) -> None:
    client.execute(damage.encode())
    assert [found[: len(line)] for found in migrate.check(url)] == [line]


@pytest.mark.server
def test_a_server_that_does_not_answer_is_reported_as_unavailable() -> None:
    nowhere = admin_url().set(query={"host": "/nonexistent"}).render_as_string(hide_password=False)
    with pytest.raises(StoreUnavailableError, match="is not reachable"):
        migrate.current(nowhere)


def test_every_dataset_starts_in_slot_0_unsettled(client: Client) -> None:
    rows = client.execute("SELECT dataset, slot, floor, settled FROM mirror_state").fetchall()
    assert {row[0] for row in rows} == set(DATASETS)
    assert {row[1:] for row in rows} == {(0, 0, datetime(1970, 1, 1, tzinfo=UTC))}


def test_at_most_one_batch_of_a_dataset_is_undone(client: Client) -> None:
    claim = (
        "INSERT INTO mirror_batches (dataset, number, kind, nonce, status, rows, checksum, claimed_at)"
        " VALUES ('stock_bars', %s, 'hot', 1, %s, 1, 1, now())"
    )
    client.execute(claim, (1, "done"))
    client.execute(claim, (2, "claimed"))
    with pytest.raises(psycopg.errors.UniqueViolation, match="uq_mirror_batches_undone"):
        client.execute(claim, (3, "claimed"))


def test_instruments_share_one_sequence_and_the_view_shows_the_live_ones(client: Client) -> None:
    asset, coin = add_asset(client), add_asset(client, "BTC/USD", "crypto")
    contract = add_contract(client, asset)
    add_asset(client, "AAPL-OPT", "option")
    seen = client.execute("SELECT kind, symbol, entity_id, instrument_id FROM instruments").fetchall()
    assert {row[:3] for row in seen} == {
        ("stock", "AAPL", asset),
        ("crypto", "BTC/USD", coin),
        ("option", "AAPL240621C00190000", contract),
    }
    assert len({row[3] for row in seen}) == 3
    hide(client, "assets", coin)
    assert one(client, "SELECT count(*) FROM instruments WHERE kind = 'crypto'") == 0


@pytest.mark.parametrize("kind", ["stock", "option", "outcome"])
def test_an_instrument_is_found_through_an_index(client: Client, kind: str) -> None:
    client.execute("SET enable_seqscan = off")
    query = "EXPLAIN SELECT instrument_id FROM instruments WHERE kind = %s AND symbol = ANY(%s)"
    with psycopg.ClientCursor(client) as cursor:
        plan = "\n".join(row[0] for row in cursor.execute(query, (kind, ["AAPL", "MSFT"])).fetchall())
    assert "symbol)::text = ANY" in plan or "token_id)::text = ANY" in plan
    assert "Index" in plan
    assert "Seq Scan" not in plan


def test_any_change_by_any_client_is_audited_with_its_fields(client: Client) -> None:
    asset = add_asset(client)
    client.execute("UPDATE assets SET name = 'Apple' WHERE symbol = 'AAPL'")
    hide(client, "assets", asset)
    client.execute("UPDATE assets SET is_deleted = false, deleted_at = NULL WHERE id = %s", (asset,))
    client.execute("DELETE FROM assets WHERE id = %s", (asset,))
    entries = audit(client, asset)
    assert [entry[:2] for entry in entries] == [
        (1, "insert"),
        (2, "update"),
        (3, "soft_delete"),
        (4, "restore"),
        (5, "delete"),
    ]
    user = one(client, "SELECT session_user::text")
    assert {entry[2] for entry in entries} == {user}
    assert entries[1][4] == {"name": ["name", "Apple"]}
    assert (entries[0][5], entries[4][6]) == (None, None)
    assert entries[1][6] == entries[2][5]


def test_the_audit_names_who_acts_and_why(client: Client) -> None:
    with client.transaction():
        client.execute("SELECT set_config('medalion.actor', 'bot', true), set_config('medalion.reason', 'why', true)")
        asset = add_asset(client)
    client.execute("UPDATE assets SET name = 'later'")
    assert [entry[2:4] for entry in audit(client, asset)] == [
        ("bot", "why"),
        (one(client, "SELECT session_user::text"), None),
    ]


def test_an_update_that_changes_nothing_is_not_audited(client: Client) -> None:
    asset = add_asset(client)
    client.execute("UPDATE assets SET name = name, updated_at = now()")
    assert len(audit(client, asset)) == 1


def test_a_rolled_back_change_leaves_no_audit(client: Client) -> None:
    asset = add_asset(client)
    with client.transaction(force_rollback=True):
        client.execute("UPDATE assets SET name = 'undone'")
    assert len(audit(client, asset)) == 1


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata"])
def test_each_audit_hash_covers_the_entry_and_the_one_before(client: Client, zone: str) -> None:
    client.execute(f"SET timezone = '{zone}'".encode())
    asset = add_asset(client)
    client.execute("UPDATE assets SET name = 'Apple'")
    client.execute("SET timezone = 'America/New_York'")
    entries = client.execute(
        "SELECT medalion_audit_content(a), previous_hash, hash FROM audit_logs a WHERE entity_id = %s ORDER BY version",
        (asset,),
    ).fetchall()
    previous = None
    for content, stored_previous, stored in entries:
        assert stored_previous == previous
        assert stored == hashlib.sha256((previous or b"") + content.encode()).digest()
        previous = stored
    assert len(entries) == 2


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_logs SET reason = 'x'", "DELETE FROM audit_logs", "TRUNCATE cash_movements"]
)
def test_append_only_tables_refuse_changes(client: Client, statement: str) -> None:
    add_asset(client)
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        client.execute(statement.encode())


def test_what_is_referred_to_cannot_be_hidden_by_any_client(client: Client) -> None:
    asset = add_asset(client)
    contract = add_contract(client, asset)
    with pytest.raises(psycopg.errors.RestrictViolation, match="referred to by 1 of option_contracts"):
        hide(client, "assets", asset)
    hide(client, "option_contracts", contract)
    hide(client, "assets", asset)
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="deleted row of assets"):
        add_contract(client, asset, "AAPL240719C00190000")
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="deleted row of assets"):
        client.execute("UPDATE option_contracts SET is_deleted = false, deleted_at = NULL")


def test_hiding_a_row_waits_for_whoever_is_about_to_refer_to_it(client: Client, url: str) -> None:
    asset = add_asset(client)
    with connect(url) as other, ThreadPoolExecutor(1) as pool:
        with client.transaction():
            add_contract(client, asset)
            hiding = pool.submit(hide, other, "assets", asset)
            _until_blocked(url, other.info.backend_pid)
        with pytest.raises(psycopg.errors.RestrictViolation):
            hiding.result()


def test_referring_to_a_row_waits_for_whoever_is_about_to_hide_it(client: Client, url: str) -> None:
    asset = add_asset(client)
    with connect(url) as other, ThreadPoolExecutor(1) as pool:
        with client.transaction():
            hide(client, "assets", asset)
            referring = pool.submit(add_contract, other, asset)
            _until_blocked(url, other.info.backend_pid)
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            referring.result()


def _until_blocked(url: str, pid: int) -> None:
    with connect(url) as watcher:
        for _ in range(2000):
            if one(watcher, "SELECT cardinality(pg_blocking_pids(%s))", pid):
                return
            threading.Event().wait(0.005)
    raise AssertionError(f"backend {pid} was never blocked")


def test_a_name_is_free_again_once_its_holder_is_deleted(client: Client) -> None:
    first = add_asset(client)
    with pytest.raises(psycopg.errors.UniqueViolation):
        add_asset(client)
    add_asset(client, asset_type="crypto")
    hide(client, "assets", first)
    add_asset(client)
    with pytest.raises(psycopg.errors.UniqueViolation):
        client.execute("UPDATE assets SET is_deleted = false, deleted_at = NULL WHERE id = %s", (first,))
