"""Makes a revision of the schema that runs as it is, and seals what the newest one makes.

`make revision MESSAGE=…` compares the mapped classes and datasets with what the revisions make so far, and writes the
difference as a file of `migrations/versions`: columns and tables, which Alembic finds, and the checks, members of enums
and triggers, which it does not. `make digests` runs all revisions and notes what the newest makes in
`migrations/digests.json`; that of an older one never changes.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from medalion.core.errors import StoreError
from oltp.entities.catalogue import METADATA
from oltp.entities.columns import Exact, UtcDateTime
from oltp.schema import fingerprint, migrate, revision
from oltp.schema.drift import checks, differing_enums, needed_checks, needed_triggers, triggers
from oltp.server.embedded import EmbeddedPostgres


def write(message: str) -> Path | None:
    """The file of a new revision that brings the schema to what classes and datasets say; None if it is there."""
    made: list[Path] = []

    def complete(context: MigrationContext, _: Any, scripts: list[ops.MigrationScript]) -> None:
        if context.connection is not None:
            _complete(context.connection, scripts[0])
        if scripts[0].upgrade_ops is None or scripts[0].upgrade_ops.is_empty():
            scripts.clear()

    with database() as url:
        migrate.upgrade(url)
        with migrate.connected(url) as connection:
            configuration = migrate.configuration(connection=connection)
            configuration.attributes["options"] = {"render_item": rendered}
            configuration.set_main_option("file_template", "%%(rev)s_%%(slug)s")
            script = command.revision(
                configuration,
                message,
                autogenerate=True,
                rev_id=f"{int(revision.head()) + 1:04}",
                process_revision_directives=complete,
            )
            made = [Path(each.path) for each in (script if isinstance(script, list) else [script]) if each is not None]
    if not made:
        return None
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", made[0]], check=True)  # noqa: S603
    revision.head.cache_clear()
    seal()
    return made[0]


def seal() -> None:
    """Note what the newest revision makes.

    Raises:
        StoreError: an older one makes something else than it did when it was sealed.
    """
    known = json.loads(fingerprint.path().read_text(encoding="utf-8")) if fingerprint.path().exists() else {}
    with database() as url:
        for number, made in states(url):
            if number in known and known[number] != made and number != revision.head():
                raise StoreError(f"revision {number} has landed and makes another schema than it did; undo the change")
            known[number] = made
    fingerprint.path().write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def states(url: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Of each revision, the oldest first, the tables that are ours then and the digest of the schema it makes."""
    scripts = ScriptDirectory.from_config(migrate.configuration())
    for number in reversed([script.revision for script in scripts.walk_revisions()]):
        migrate.upgrade(url, number)
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            tables = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = quote_ident(current_schema())::regnamespace"
                " AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'alembic_version' ORDER BY 1"
            ).fetchall()
            names = tuple(name for (name,) in tables)
            yield number, {"tables": " ".join(names), "digest": fingerprint.digest(connection, names)}


@contextmanager
def database() -> Iterator[str]:
    """An empty database of a server that ends with it."""
    with TemporaryDirectory() as folder, EmbeddedPostgres.start(Path(folder), report=lambda _: None) as server:
        yield server.url


def rendered(kind: str, item: Any, context: Any) -> str | bool:
    """A type as migrations write it, which know nothing of our classes; False leaves it to Alembic."""
    if kind != "type":
        return False
    match item:
        case Exact():
            return f"sa.Numeric({item.precision}, 8)"
        case UtcDateTime():
            return "sa.DateTime(timezone=True)"
        case sa.Enum():
            return f"sa.String({item.length})"
        case JSONB():
            context.imports.add("from sqlalchemy.dialects.postgresql import JSONB")
            return "JSONB()"
    return False


def _complete(connection: sa.Connection, script: ops.MigrationScript) -> None:
    """What Alembic does not compare, behind what it found; taken back before that."""
    if script.upgrade_ops is None or script.downgrade_ops is None:
        raise StoreError("a revision is made in one piece")
    new = [step for step in script.upgrade_ops.ops if isinstance(step, ops.CreateTableOp)]
    for step in new:
        step.columns = [part for part in step.columns if not isinstance(part, sa.CheckConstraint)]
    changes = [*_of_checks(connection), *_of_triggers(connection)]
    gone = {step.table_name for step in new}
    script.upgrade_ops.ops += [ops.ExecuteSQLOp(there) for _, there, _ in changes]
    script.downgrade_ops.ops[:0] = [ops.ExecuteSQLOp(back) for table, _, back in reversed(changes) if table not in gone]


Change: TypeAlias = tuple[str, str, str]
"""The table that is changed, the statement, and the one that takes it back."""


def _of_checks(connection: sa.Connection) -> Iterator[Change]:
    found = checks(connection)
    differing = {name for _, _, name, _ in differing_enums(found)}
    for table, check in needed_checks():
        name, alter = str(check.name), f"ALTER TABLE {table.name}"
        rule = check.sqltext.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True})
        drop, add = f"DROP CONSTRAINT {name}", f"ADD CONSTRAINT {name}"
        if name not in found:
            yield table.name, f"{alter} {add} CHECK ({rule})", f"{alter} {drop}"
        elif name in differing:
            yield table.name, f"{alter} {drop}, {add} CHECK ({rule})", f"{alter} {drop}, {add} {found[name]}"


_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_WHEN = {
    "medalion_append_only": "BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} FOR EACH STATEMENT",
    "medalion_audit": "AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW",
    "medalion_live_parents": "BEFORE INSERT OR UPDATE OF is_deleted, {keys} ON {table} FOR EACH ROW",
    "medalion_restrict": (
        "BEFORE UPDATE OF is_deleted ON {table} FOR EACH ROW WHEN (NEW.is_deleted AND NOT OLD.is_deleted)"
    ),
}


def _of_triggers(connection: sa.Connection) -> Iterator[Change]:
    found = triggers(connection)
    for (table, name), call in sorted(needed_triggers().items()):
        keys = ", ".join(sorted(key.parent.name for key in METADATA.tables[table].foreign_keys))
        create = f"CREATE TRIGGER {name} {_WHEN[name].format(table=table, keys=keys)} EXECUTE FUNCTION {call}"
        drop, was = f"DROP TRIGGER {name} ON {table}", found.get((table, name))
        if was is None:
            yield table, create, drop
        elif was.call != call:
            yield table, f"{drop};\n{create}", f"{drop};\n{was.definition}"


def main(arguments: list[str]) -> None:
    """With a message a new revision, else the seal of the newest."""
    if not arguments:
        seal()
    elif (path := write(" ".join(arguments))) is None:
        sys.exit("the revisions make what classes and datasets say; nothing was written")
    else:
        sys.stdout.write(f"{path}: read it, and add what it cannot know\n")


if __name__ == "__main__":
    main(sys.argv[1:])
