"""The schema has a history: what has landed stays as it is, and a database of another history is refused, by name."""

import json
import shutil
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import medalion
from medalion.core.errors import StoreError
from oltp.schema import fingerprint, migrate, revision
from oltp.server.engine import libpq_of, parse_url
from tests.support.commands import run
from tests.support.postgres import empty_database, fresh_database
from tools.revisions import states


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with fresh_database() as made:
        yield made


def alter(url: str, *statements: str) -> None:
    with psycopg.connect(libpq_of(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.mark.server
def test_every_revision_makes_what_it_made_when_it_landed() -> None:
    sealed = json.loads(fingerprint.path().read_text(encoding="utf-8"))
    with empty_database() as url:
        assert dict(states(url)) == sealed, "a revision that has landed is never edited; `make digests` seals a new one"
    assert list(sealed)[-1] == revision.head()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE trades DROP COLUMN notes",
        "ALTER TABLE trades ALTER quantity TYPE numeric(20, 8)",
        "ALTER TABLE fills ALTER venue DROP NOT NULL",
        "ALTER TABLE positions ADD COLUMN colour text",
        "ALTER TABLE accounts DROP CONSTRAINT ck_accounts_accounttype,"
        " ADD CONSTRAINT ck_accounts_accounttype CHECK (account_type IN ('paper', 'live'))",
        "ALTER TABLE fills DROP CONSTRAINT fk_fills_trade_id",
        "ALTER TABLE stock_bars_last DROP CONSTRAINT pk_stock_bars_last",
        "DROP INDEX uq_positions_open",
        "DROP TABLE job_runs CASCADE",
        "DROP TRIGGER medalion_audit ON trades",
        "ALTER TABLE cash_movements DISABLE TRIGGER medalion_append_only",
        "CREATE OR REPLACE FUNCTION medalion_audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "ALTER FUNCTION medalion_live_parents() RESET enable_seqscan",
    ],
)
def test_a_database_of_another_state_of_its_revision_is_refused(url: str, data_dir: Path, change: str) -> None:
    alter(url, change)
    said = rf"revision {revision.head()} .* `medalion db check` names the differences"
    for attempt in (lambda: medalion.open(url, data_dir=data_dir), lambda: migrate.upgrade(url)):
        with pytest.raises(StoreError, match=said):
            attempt()


def test_an_older_database_is_looked_at_before_it_is_brought_up(url: str, data_dir: Path) -> None:
    migrate.downgrade(url, "0001")
    alter(url, "ALTER TABLE trades DROP COLUMN notes")
    with pytest.raises(StoreError, match="revision 0001 and is not what this release makes of that"):
        migrate.upgrade(url)
    assert migrate.current(url) == "0001"


def test_what_is_not_ours_is_left_alone(url: str, data_dir: Path) -> None:
    alter(
        url,
        "CREATE TABLE notes (id serial PRIMARY KEY, text text NOT NULL CHECK (text <> ''))",
        "CREATE INDEX ours_by_name ON notes (text)",
        "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER tell AFTER INSERT ON fills FOR EACH ROW EXECUTE FUNCTION tell()",
        "CREATE VIEW today AS SELECT * FROM fills",
    )
    assert migrate.check(url) == []
    medalion.open(url, data_dir=data_dir, mirror_background=False).close()
    alter(url, "DROP VIEW today", "INSERT INTO notes (text) VALUES ('kept')")
    migrate.downgrade(url)
    with psycopg.connect(libpq_of(url)) as connection:
        assert connection.execute("SELECT text FROM notes").fetchall() == [("kept",)]


@pytest.mark.server
def test_in_another_schema_it_is_the_same() -> None:
    with empty_database() as url:
        name = parse_url(url).database
        alter(url, 'CREATE SCHEMA "Its Own"', f'ALTER DATABASE {name} SET search_path = "Its Own"')
        migrate.upgrade(url)
        with psycopg.connect(libpq_of(url)) as connection:
            assert fingerprint.checked_revision(connection) == revision.head()
            assert connection.execute("SELECT current_schema()").fetchone() == ("Its Own",)


class OldServer(socketserver.StreamRequestHandler):
    """Speaks as PostgreSQL 15 does to who comes in, and no further."""

    def handle(self) -> None:
        while True:
            length, code = struct.unpack("!ii", self.rfile.read(8))
            self.rfile.read(length - 8)
            if code == 196608:  # the protocol's version 3, and not a question about encryption
                break
            self.wfile.write(b"N")
        told = {"server_version": "15.4", "client_encoding": "UTF8", "standard_conforming_strings": "on"}
        parameters = b"".join(self.message(b"S", f"{name}\0{value}\0".encode()) for name, value in told.items())
        self.wfile.write(self.message(b"R", struct.pack("!i", 0)) + parameters + self.message(b"Z", b"I"))
        while self.rfile.read(1):
            pass

    @staticmethod
    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body


@pytest.fixture
def old_server() -> Iterator[str]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), OldServer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"postgresql://somebody@127.0.0.1:{server.server_address[1]}/books"
        server.shutdown()


@pytest.mark.parametrize(
    "command",
    [
        "db check",
        "db current",
        "db upgrade",
        "db downgrade base --yes",
        "doctor",
        "read stock_bars --timeframe 1Day",
        "mirror run",
        "audit verify",
    ],
)
def test_a_server_that_is_too_old_is_refused_by_every_command(
    old_server: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("MEDALION_DATABASE_URL", old_server)
    monkeypatch.setenv("MEDALION_DATA_DIR", str(data_dir))
    done = run("--wide", *command.split())
    assert done.exit_code != 0
    assert "runs PostgreSQL 15; medalion needs 16 or newer" in done.output


MAKER = """
import sys
from enum import StrEnum
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from medalion.core import enums

enums.AccountType = StrEnum("AccountType", {kind.name: kind.value for kind in enums.AccountType} | {"DEMO": "demo"})

from medalion.core.enums import TradeSide
from oltp.entities import trading
from oltp.entities.base import Entity, reference
from oltp.schema import fingerprint, migrate, revision
from tools import revisions

place = Path(sys.argv[1])
revision.folder = fingerprint.folder = lambda: place

class Label(Entity):
    __tablename__ = "labels"
    side: Mapped[TradeSide]
    weight: Mapped["trading.Decimal"] = mapped_column(sa.CheckConstraint("weight > 0", name="weight"))
    seen_at: Mapped["trading.datetime"]
    extra: Mapped["trading.JsonObject | None"]
    trade_id: Mapped["trading.UUID"] = reference("trades.id")

trading.Account.__table__.append_column(sa.Column("colour", sa.String(20)))
assert revisions.write("labels and colours")
with revisions.database() as url:
    migrate.upgrade(url)
    assert migrate.check(url) == [], migrate.check(url)
    migrate.downgrade(url, "-1")
    migrate.upgrade(url)
    assert migrate.check(url) == []
assert revisions.write("nothing") is None
"""


@pytest.mark.long
@pytest.mark.server
def test_a_revision_that_is_made_runs_as_it_is(tmp_path: Path) -> None:
    place = tmp_path / "migrations"
    shutil.copytree(revision.folder(), place, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-c", MAKER, str(place)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = next(place.glob("versions/*_labels_and_colours.py"))
    assert "oltp" not in made.read_text(encoding="utf-8"), "a revision must not change with our classes"
