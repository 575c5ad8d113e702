"""Audit: who changed what and when, what it was like at a time, and whether the record has been tampered with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from anyio import to_thread

from medalion.core.time import Instant, utc
from medalion.journal.anchors import AnchorRun, Anchors
from oltp.entities.base import Entity
from oltp.entities.catalogue import entities
from oltp.entities.journal import AuditLog
from oltp.repositories.base import id_of
from oltp.repositories.unit_of_work import UnitOfWork

# The triggers' own function gives the content, so that writing and checking cannot drift apart.
_BROKEN = sa.text("""
    SELECT entity_type, entity_id, version, is_genuine, follows, version = place AS is_counted
    FROM (
        SELECT entity_type, entity_id, version,
               hash = sha256(coalesce(previous_hash, ''::bytea)
                             || convert_to(medalion_audit_content(entry), 'UTF8')) AS is_genuine,
               previous_hash IS NOT DISTINCT FROM lag(hash) OVER of_entity AS follows,
               row_number() OVER of_entity AS place
        FROM audit_logs AS entry
        WHERE CAST(:entity_id AS uuid) IS NULL OR entity_id = :entity_id
        WINDOW of_entity AS (PARTITION BY entity_type, entity_id ORDER BY version)
    ) AS checked
    WHERE NOT (is_genuine AND follows AND version = place)
    ORDER BY entity_type, entity_id, version
""")

# What the last entry says against what the row is now. Columns that only one of them knows came with a migration.
_DRIFTED = """
    SELECT coalesce(held.id, last.entity_id) AS entity_id, last.version,
           held.id IS NULL AS is_gone, last.entity_id IS NULL AS is_unknown
    FROM {table} AS held
    FULL JOIN (
        SELECT DISTINCT ON (entity_id) entity_id, version, action, new_state FROM audit_logs
        WHERE entity_type = '{table}' ORDER BY entity_id, version DESC
    ) AS last ON last.entity_id = held.id
    WHERE (CAST(:entity_id AS uuid) IS NULL OR coalesce(held.id, last.entity_id) = :entity_id)
      AND CASE WHEN held.id IS NULL THEN last.action <> 'delete' WHEN last.entity_id IS NULL THEN true
          ELSE last.action = 'delete' OR EXISTS (
              SELECT FROM jsonb_each(last.new_state) AS was JOIN jsonb_each(to_jsonb(held)) AS becomes USING (key)
              WHERE was.value <> becomes.value AND key NOT IN ('updated_at', 'row_version')) END
    ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class AuditProblem:
    """Where the record and reality part; `version` is the entry's, or the last one's.

    Where a run of anchors itself is not what it was, there is no entity, and `version` is the number of the run.
    """

    entity_type: str
    entity_id: UUID | None
    version: int | None
    problem: str

    def __str__(self) -> str:
        if self.entity_id is None:
            return f"{self.entity_type} run {self.version}: {self.problem}"
        return f"{self.entity_type} {self.entity_id} version {self.version}: {self.problem}"


class Audit:
    """Reads the entries that the database writes with every change of an entity, in the same transaction."""

    def __init__(self, units: Callable[[], UnitOfWork], anchors: Anchors) -> None:
        self._units = units
        self._anchors = anchors

    async def history(self, which: Entity | UUID | str, entity_type: str | None = None) -> list[AuditLog]:
        """Every change of the entity, by itself or its id, oldest first; also after its deletion."""
        async with self._units() as unit:
            return await unit.audit_logs.find(order=(AuditLog.version,), **_of(which, entity_type))

    async def state_at(
        self, which: Entity | UUID | str, moment: Instant, entity_type: str | None = None
    ) -> dict[str, Any] | None:
        """The entity's columns after its last change at or before `moment`; None if it did not exist.

        Values are those of JSON: numbers as written, times as text in UTC. A deleted entity says `is_deleted`. A change
        counts from when it was made, within its transaction.
        """
        before = AuditLog.action_timestamp <= utc(moment, name="moment")
        async with self._units() as unit:
            last = await unit.audit_logs.first(before, order=(AuditLog.version.desc(),), **_of(which, entity_type))
            return None if last is None else last.new_state

    async def verify(self, which: Entity | UUID | str | None = None) -> list[AuditProblem]:
        """What is wrong with the record of one entity, or of all: empty if nothing is.

        Found are entries that were changed, removed or slipped in, rows that were changed behind the triggers' back,
        and rows that vanished; from the anchors in the lake also newest entries that were removed, whole records that
        were removed or slipped in, and entries that were written anew with hashes that fit. What happened since the
        last `anchor` is known from the entries alone.
        """
        entity_id = None if which is None else id_of(which)
        problems = []
        async with self._units() as unit:
            for kind, identity, version, is_genuine, follows, is_counted in await unit.session.execute(
                _BROKEN, {"entity_id": entity_id}
            ):
                said = [
                    *([] if is_genuine else ["its content is not what was written"]),
                    *([] if follows else ["it does not follow the entry before it"]),
                    *([] if is_counted else ["entries before it are missing"]),
                ]
                problems.append(AuditProblem(kind, identity, version, "; ".join(said)))
            for table in audited_tables():
                drifted = sa.text(_DRIFTED.format(table=table))
                for identity, version, is_gone, is_unknown in await unit.session.execute(
                    drifted, {"entity_id": entity_id}
                ):
                    problem = (
                        "the row is gone" if is_gone else "it has no entry" if is_unknown else "the row says otherwise"
                    )
                    problems.append(AuditProblem(table, identity, version, problem))
        found = await to_thread.run_sync(self._anchors.problems, entity_id)
        return [*problems, *(AuditProblem(*problem) for problem in found)]

    async def anchor(self) -> AnchorRun:
        """Keep the newest entry of every entity in the lake, where it has changed since it was last kept.

        A store that mirrors itself does so a minute after it was opened, and then once an hour.

        Raises:
            CorruptLakeError: the lake is that of another store, or anchors were changed or removed.
            StoreError: the lake cannot be written to.
        """
        return await to_thread.run_sync(self._anchors.run)


def audited_tables() -> list[str]:
    """The tables whose changes are recorded."""
    return sorted(entity.__tablename__ for entity in entities() if entity.audited and not entity.append_only)


def _of(which: Entity | UUID | str, entity_type: str | None) -> dict[str, Any]:
    """Ids are unique across tables, so that the type only narrows."""
    if isinstance(which, Entity):
        entity_type = which.__tablename__
    return {"entity_id": id_of(which)} | ({} if entity_type is None else {"entity_type": entity_type})
