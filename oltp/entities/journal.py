"""What happened around the trading: logs, errors, measurements of the system, and who changed what."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from medalion.core.enums import ErrorSeverity, LogLevel
from oltp.entities.base import Entity, now
from oltp.entities.columns import WIDE, JsonObject


class ApplicationLog(Entity):
    """One line of the program's log."""

    __tablename__ = "application_logs"
    audited = False

    log_level: Mapped[LogLevel] = mapped_column(default=LogLevel.INFORMATION, index=True)
    category: Mapped[str] = mapped_column(sa.String(200), default="", index=True)
    message: Mapped[str]
    exception: Mapped[str | None]
    stack_trace: Mapped[str | None]
    log_timestamp: Mapped[datetime] = mapped_column(default=now, index=True)
    source: Mapped[str | None] = mapped_column(sa.String(200))
    correlation_id: Mapped[str | None] = mapped_column(sa.String(100), index=True)
    entity_type: Mapped[str | None] = mapped_column(sa.String(100))
    entity_id: Mapped[UUID | None]
    additional_data: Mapped[JsonObject | None]


class ErrorLog(Entity):
    """Something that went wrong, and what was done about it."""

    __tablename__ = "error_logs"
    __table_args__ = (
        sa.Index(None, "was_handled", "error_timestamp"),
        sa.Index(None, "requires_intervention", "error_timestamp"),
    )
    audited = False

    severity: Mapped[ErrorSeverity] = mapped_column(index=True)
    category: Mapped[str] = mapped_column(sa.String(200), default="", index=True)
    error_code: Mapped[str | None] = mapped_column(sa.String(50))
    message: Mapped[str]
    exception_type: Mapped[str | None] = mapped_column(sa.String(500))
    exception_details: Mapped[str | None]
    stack_trace: Mapped[str | None]
    inner_exception: Mapped[str | None]
    error_timestamp: Mapped[datetime] = mapped_column(default=now, index=True)
    source: Mapped[str] = mapped_column(sa.String(200), default="")
    correlation_id: Mapped[str | None] = mapped_column(sa.String(100), index=True)
    was_handled: Mapped[bool] = mapped_column(default=False)
    requires_intervention: Mapped[bool] = mapped_column(default=False)
    entity_type: Mapped[str | None] = mapped_column(sa.String(100))
    entity_id: Mapped[UUID | None]
    reported_by: Mapped[str | None] = mapped_column(sa.String(200))
    resolution_notes: Mapped[str | None] = mapped_column(sa.String(2000))
    resolved_at: Mapped[datetime | None]
    additional_data: Mapped[JsonObject | None]


class PerformanceMetric(Entity):
    """A measurement of the system itself, such as a latency."""

    __tablename__ = "performance_metrics"
    __table_args__ = (sa.Index(None, "metric_name", "metric_timestamp"),)
    audited = False

    metric_name: Mapped[str] = mapped_column(sa.String(200))
    category: Mapped[str] = mapped_column(sa.String(100), default="", index=True)
    value: Mapped[Decimal] = mapped_column(WIDE)
    unit: Mapped[str] = mapped_column(sa.String(50))
    metric_timestamp: Mapped[datetime] = mapped_column(default=now, index=True)
    source: Mapped[str] = mapped_column(sa.String(200), default="")
    tags: Mapped[JsonObject | None]
    extra: Mapped[JsonObject | None] = mapped_column("metadata")


class AuditLog(Entity):
    """One change of one entity, written by the database in the transaction that made it.

    `hash` is the SHA-256 of `previous_hash` and of `medalion_audit_content(row)`; `version` counts from 1.
    """

    __tablename__ = "audit_logs"
    __table_args__ = (sa.UniqueConstraint("entity_type", "entity_id", "version"),)
    append_only = True
    audited = False

    action: Mapped[str] = mapped_column(sa.String(200), doc="insert, update, delete, soft_delete or restore.")
    entity_type: Mapped[str] = mapped_column(sa.String(100), doc="The table.")
    entity_id: Mapped[UUID]
    version: Mapped[int]
    performed_by: Mapped[str] = mapped_column(sa.String(200), index=True)
    action_timestamp: Mapped[datetime] = mapped_column(index=True)
    previous_state: Mapped[JsonObject | None]
    new_state: Mapped[JsonObject | None]
    changes: Mapped[JsonObject | None] = mapped_column(doc="Field → [before, after], for an update.")
    reason: Mapped[str | None] = mapped_column(sa.String(1000))
    ip_address: Mapped[str | None] = mapped_column(sa.String(50))
    correlation_id: Mapped[str | None] = mapped_column(sa.String(100))
    extra: Mapped[JsonObject | None] = mapped_column("metadata")
    previous_hash: Mapped[bytes | None] = mapped_column(doc="Null for version 1.")
    hash: Mapped[bytes]
