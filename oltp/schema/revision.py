"""Which revision a database is at and which this release needs; asked at every opening, so without Alembic."""

import re
from functools import cache
from pathlib import Path

from medalion.core.errors import StoreError
from oltp.server.engine import Connection, one

_STATED = re.compile(r"^(revision|down_revision)\b[^=\n]*= *(.*)$", re.MULTILINE)
_NAMED = re.compile(r"[\"']([^\"']+)[\"']")


def current(connection: Connection) -> str | None:
    """The revision the database is at, several separated by commas; None if it has no schema yet."""
    (table,) = one(connection.execute("SELECT to_regclass('alembic_version')::text").fetchone())
    if table is None:
        return None
    rows = connection.execute("SELECT version_num FROM alembic_version ORDER BY version_num").fetchall()
    return ", ".join(number for (number,) in rows) or None


@cache
def head() -> str:
    """The revision this release needs: the one among its files that no other builds upon.

    Raises:
        StoreError: there is none, or there are several.
    """
    own, before = set[str](), set[str]()
    for path in (folder() / "versions").glob("*.py"):
        for name, value in _STATED.findall(path.read_text(encoding="utf-8")):
            (own if name == "revision" else before).update(_NAMED.findall(value))
    heads = sorted(own - before)
    if len(heads) != 1:
        found = f"ends in {' and '.join(heads)}" if heads else "holds no migrations"
        raise StoreError(f"{folder()} {found}; reinstall medalion")
    return heads[0]


def folder() -> Path:
    """Where the migrations are: inside `oltp` when installed, beside it in a checkout."""
    here = Path(__file__).parents[1]
    for place in (here / "migrations", here.parent / "migrations"):
        if (place / "env.py").is_file():
            return place
    raise StoreError(f"no migrations in {here} nor in {here.parent}; reinstall medalion")
