"""How the store itself works: writes, mirror batches, job runs, and what a recording covers."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from medalion.core.enums import BatchStatus, JobStatus, WriteKind
from oltp.entities.base import Base, Entity, now, reference
from oltp.entities.columns import JSON, JsonObject

WRITE_IDS = sa.Sequence("write_id_seq", data_type=sa.BigInteger, metadata=Base.metadata)

_EPOCH = sa.text("'1970-01-01 00:00:00+00'::timestamptz")


class Write(Base):
    """One durable call of `store.write`, or one import."""

    __tablename__ = "writes"
    __table_args__ = (
        sa.Index("ix_writes_unclaimed", "dataset", "id", postgresql_where=sa.text("batch IS NULL")),
        sa.Index(None, "dataset", "batch"),
        sa.Index(None, "dataset", "slot", postgresql_where=sa.text("slot IS NOT NULL")),
        sa.Index(
            None, "dataset", "idempotency_key", unique=True, postgresql_where=sa.text("idempotency_key IS NOT NULL")
        ),
    )

    id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False, doc="From `write_id_seq`.")
    dataset: Mapped[str] = mapped_column(sa.String(63))
    kind: Mapped[WriteKind] = mapped_column(default=WriteKind.HOT)
    source: Mapped[str]
    recorded_at: Mapped[datetime]
    rows: Mapped[int] = mapped_column(sa.BigInteger)
    first_ts: Mapped[datetime | None]
    last_ts: Mapped[datetime | None]
    first_instrument: Mapped[int | None] = mapped_column(sa.BigInteger)
    last_instrument: Mapped[int | None] = mapped_column(sa.BigInteger)
    checksum: Mapped[int] = mapped_column(sa.BigInteger, doc="The unsigned sum, as 64 signed bits.")
    dropped_rows: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="Rows of it that retention has removed."
    )
    dropped_checksum: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="The sum of the hashes of those rows."
    )
    lost_rows: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="Rows of it that were damaged beyond repair."
    )
    lost_checksum: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="By how much that lessens its checksum."
    )
    idempotency_key: Mapped[str | None]
    slot: Mapped[int | None] = mapped_column(sa.SmallInteger, doc="Null once its rows left the hot table.")
    batch: Mapped[int | None] = mapped_column(doc="Null until a mirror run claims it.")
    details: Mapped[JsonObject | None]


class MirrorBatch(Base):
    """What one mirror run claimed, or one import brought; contiguous per dataset, at most one of them undone."""

    __tablename__ = "mirror_batches"
    __table_args__ = (
        sa.Index("uq_mirror_batches_undone", "dataset", unique=True, postgresql_where=sa.text("status <> 'done'")),
    )

    dataset: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[WriteKind] = mapped_column(default=WriteKind.HOT)
    nonce: Mapped[int] = mapped_column(sa.BigInteger)
    status: Mapped[BatchStatus] = mapped_column(default=BatchStatus.CLAIMED)
    rows: Mapped[int] = mapped_column(sa.BigInteger)
    checksum: Mapped[int] = mapped_column(sa.BigInteger)
    file_list: Mapped[list[JsonObject] | None] = mapped_column(JSON, doc="What an import wrote before its batch.")
    claimed_at: Mapped[datetime] = mapped_column(default=now)
    done_at: Mapped[datetime | None]
    delta_version: Mapped[int | None] = mapped_column(sa.BigInteger)


class MirrorState(Base):
    """One row per dataset: where its hot rows go, and how far they are emptied and settled."""

    __tablename__ = "mirror_state"

    dataset: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    slot: Mapped[int] = mapped_column(sa.SmallInteger, default=0, server_default=sa.text("0"))
    floor: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="The highest batch whose hot rows were emptied."
    )
    newest_import: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="The last batch that was an import and is done."
    )
    settled: Mapped[datetime] = mapped_column(server_default=_EPOCH, doc="No write at or before it is still open.")
    known_from: Mapped[datetime] = mapped_column(
        server_default=_EPOCH, doc="Of versions superseded before it, retention has removed some."
    )
    kept_from: Mapped[datetime] = mapped_column(
        server_default=_EPOCH, doc="Of rows whose ts is before it, retention has removed some."
    )
    dropped_at: Mapped[datetime] = mapped_column(server_default=_EPOCH, doc="When it last removed such rows.")
    removal: Mapped[JsonObject | None] = mapped_column(
        doc="What retention or a repair is removing: the nonce of its commit, and rows and checksum by write."
    )
    folded_rows: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="Rows in the lake of writes that were folded."
    )
    folded_checksum: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="The sum of the hashes of those rows."
    )
    folded_until: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="The highest id among the folded writes."
    )
    counted: Mapped[int] = mapped_column(
        sa.BigInteger, default=0, server_default=sa.text("0"), doc="The batch up to which series are counted; -1: none."
    )


class SeriesCoverage(Base):
    """What the lake holds of one series: of an instrument, from a source, in a timeframe."""

    __tablename__ = "series_coverage"

    dataset: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    instrument_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(primary_key=True)
    timeframe: Mapped[str] = mapped_column(primary_key=True, doc="Empty where the dataset has none.")
    symbol: Mapped[str] = mapped_column(doc="As its newest rows name it.")
    first_ts: Mapped[datetime] = mapped_column(doc="No row is before it.")
    last_ts: Mapped[datetime] = mapped_column(doc="No row is after it.")
    rows: Mapped[int] = mapped_column(sa.BigInteger, doc="At most so many rows are read.")
    is_exact: Mapped[bool] = mapped_column(doc="Whether both are so to the row.")
    is_stale: Mapped[bool] = mapped_column(doc="Rows were deleted since: the range must be counted.")


class StoreIdentity(Base):
    """The one row by which a store knows its own lake."""

    __tablename__ = "store_identity"
    __table_args__ = (sa.CheckConstraint("is_only", name="is_only"),)

    is_only: Mapped[bool] = mapped_column(primary_key=True, default=True, server_default=sa.true())
    id: Mapped[int] = mapped_column(
        sa.BigInteger, doc="62 random bits, drawn when the database was made; the tables of its lake have it too."
    )


class ObservedSource(Base):
    """A feed that has rows of an instrument in a dataset; the one that wrote first comes first by default."""

    __tablename__ = "observed_sources"

    dataset: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    instrument_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(primary_key=True)
    first_write: Mapped[int] = mapped_column(sa.BigInteger, doc="The write that brought its first row.")


class SourcePreference(Base):
    """Which feeds answer before others from then on, for an instrument or a whole dataset; the newest counts."""

    __tablename__ = "source_preferences"

    id: Mapped[int] = mapped_column(
        sa.BigInteger, primary_key=True, autoincrement=False, doc="From the sequence of writes, whose order it shares."
    )
    dataset: Mapped[str] = mapped_column(sa.String(63), index=True)
    instrument_id: Mapped[int | None] = mapped_column(sa.BigInteger, doc="Null: for every instrument without its own.")
    sources: Mapped[list[str]] = mapped_column(doc="Most preferred first; none takes it back.")
    recorded_at: Mapped[datetime] = mapped_column(doc="From when on, as writes are recorded.")


class Rollup(Base):
    """Bars of a timeframe that are made beforehand and kept up, rather than on every read."""

    __tablename__ = "rollups"

    dataset: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    timeframe: Mapped[str] = mapped_column(primary_key=True)
    instruments: Mapped[list[int] | None] = mapped_column(JSON, doc="Null for every instrument.")
    refreshed_at: Mapped[datetime | None] = mapped_column(doc="When the last refresh began that went to its end.")


class RollupSeries(Base):
    """How far the bars of one instrument are kept up; without a row they are made on reading."""

    __tablename__ = "rollup_series"

    dataset: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    timeframe: Mapped[str] = mapped_column(primary_key=True)
    instrument_id: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    source: Mapped[str] = mapped_column(doc="That of the rows from which they are made.")
    made_from: Mapped[str] = mapped_column(sa.String(63), doc="The dataset of those rows.")
    finer: Mapped[str | None] = mapped_column(doc="The timeframe of those rows; null for quotes.")
    until: Mapped[int] = mapped_column(sa.BigInteger, doc="Of writes up to this number all that there is, is in them.")
    dropped_at: Mapped[datetime] = mapped_column(doc="The newest removal by retention that they know of.")
    built_at: Mapped[datetime] = mapped_column(doc="When they were last made from the beginning.")


class JobRun(Entity):
    """One run of a batch job, with what it read and what it made."""

    __tablename__ = "job_runs"
    __table_args__ = (sa.Index(None, "job", "started_at"),)

    job: Mapped[str] = mapped_column(sa.String(200))
    status: Mapped[JobStatus] = mapped_column(default=JobStatus.RUNNING, index=True)
    parameters: Mapped[JsonObject] = mapped_column(default=dict)
    inputs: Mapped[JsonObject] = mapped_column(default=dict, doc="Lineage: pins of the lake, versions of the code.")
    results: Mapped[JsonObject | None]
    started_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None]


class StreamSession(Entity):
    """A recording of a feed, from its start to its end."""

    __tablename__ = "stream_sessions"
    __table_args__ = (sa.Index(None, "dataset", "source", "started_at"),)

    feed: Mapped[str] = mapped_column(sa.String(100))
    dataset: Mapped[str] = mapped_column(sa.String(63))
    source: Mapped[str] = mapped_column(sa.String(100))
    symbols: Mapped[list[str]] = mapped_column(default=list)
    started_at: Mapped[datetime] = mapped_column(default=now)
    ended_at: Mapped[datetime | None] = mapped_column(doc="Null while it runs.")


class CoverageGap(Entity):
    """A span `[starts_at, ends_at)` in which a recording missed what happened."""

    __tablename__ = "coverage_gaps"
    __table_args__ = (sa.Index(None, "dataset", "source", "starts_at"),)

    session_id: Mapped[UUID | None] = reference("stream_sessions.id")
    dataset: Mapped[str] = mapped_column(sa.String(63))
    source: Mapped[str] = mapped_column(sa.String(100))
    instrument_id: Mapped[int | None] = mapped_column(sa.BigInteger, doc="Null for every instrument of the session.")
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None] = mapped_column(doc="Null while it lasts.")
    reason: Mapped[str] = mapped_column(sa.String(1000), default="")
