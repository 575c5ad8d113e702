"""The repositories of what is only recorded: logs, measurements, the audit, runs and recordings."""

from oltp.entities.journal import ApplicationLog, AuditLog, ErrorLog, PerformanceMetric
from oltp.entities.operations import CoverageGap, JobRun, StreamSession
from oltp.repositories.base import Repository, Which, id_of


class ApplicationLogRepository(Repository[ApplicationLog]):
    """The program's log, newest first."""

    model = ApplicationLog
    order = (ApplicationLog.log_timestamp.desc(),)


class ErrorLogRepository(Repository[ErrorLog]):
    """Errors, newest first."""

    model = ErrorLog
    order = (ErrorLog.error_timestamp.desc(),)

    async def unhandled(self) -> list[ErrorLog]:
        """The errors that the program did not handle itself."""
        return await self.find(was_handled=False)


class PerformanceMetricRepository(Repository[PerformanceMetric]):
    """Measurements of the system, newest first."""

    model = PerformanceMetric
    order = (PerformanceMetric.metric_timestamp.desc(),)


class AuditLogRepository(Repository[AuditLog]):
    """Who changed what, oldest first."""

    model = AuditLog
    order = (AuditLog.action_timestamp, AuditLog.version)

    async def history(self, entity_type: str, which: Which) -> list[AuditLog]:
        """Every change of one entity, by its table and id, also after its deletion."""
        return await self.find(entity_type=entity_type, entity_id=id_of(which), order=(AuditLog.version,))


class JobRunRepository(Repository[JobRun]):
    """Runs of batch jobs, newest first."""

    model = JobRun
    order = (JobRun.started_at.desc(),)

    async def by_job(self, job: str) -> list[JobRun]:
        """The runs of a job."""
        return await self.find(job=job)


class StreamSessionRepository(Repository[StreamSession]):
    """Recordings, newest first."""

    model = StreamSession
    order = (StreamSession.started_at.desc(),)


class CoverageGapRepository(Repository[CoverageGap]):
    """What recordings missed, oldest first."""

    model = CoverageGap
    order = (CoverageGap.starts_at,)
