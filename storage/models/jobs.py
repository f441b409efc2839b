"""Tables of jobs with their attempts, and of sources that are paused or limited."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, ForeignKey, Index, text
from sqlmodel import Field, SQLModel

from storage.models.columns import JSON_DOCUMENT, KEY, FoundBy, one_of, way

_LONE_CHECK = "kind = 'check' AND endpoint_id IS NULL AND status IN ('pending', 'running')"


class Job(SQLModel, table=True):
    """A piece of background work; see storage/jobs/__init__.py for its states."""

    __tablename__ = "jobs"
    __table_args__ = (
        one_of("kind", "fetch", "check"),
        one_of("status", "pending", "running", "done", "dead", "abandoned"),
        # claim: the due jobs of a source, oldest first; many may be due at the same moment
        Index(
            "ix_jobs_pending",
            "source",
            "next_attempt_at",
            "id",
            sqlite_where=text("status = 'pending'"),
            postgresql_where=text("status = 'pending'"),
        ),
        # release: the leases that have run out
        Index(
            "ix_jobs_running",
            "lease_until",
            sqlite_where=text("status = 'running'"),
            postgresql_where=text("status = 'running'"),
        ),
        # dead letters, newest first
        Index(
            "ix_jobs_dead",
            "id",
            sqlite_where=text("status = 'dead'"),
            postgresql_where=text("status = 'dead'"),
        ),
        # claim: the due checks of a source before its other jobs
        Index(
            "ix_jobs_checks_due",
            "source",
            "next_attempt_at",
            "id",
            sqlite_where=text("kind = 'check' AND status = 'pending'"),
            postgresql_where=text("kind = 'check' AND status = 'pending'"),
        ),
        # "the checks of this batch or run"
        Index(
            "ix_jobs_checks",
            "source",
            "subject",
            sqlite_where=text("kind = 'check'"),
            postgresql_where=text("kind = 'check'"),
        ),
        # One live check job for a batch without an endpoint of its own.
        Index(
            "uq_jobs_check_subject",
            "source",
            "subject",
            unique=True,
            sqlite_where=text(_LONE_CHECK),
            postgresql_where=text(_LONE_CHECK),
        ),
        # One live check job for an endpoint.
        Index(
            "uq_jobs_check",
            "endpoint_id",
            unique=True,
            sqlite_where=text("kind = 'check' AND status IN ('pending', 'running')"),
            postgresql_where=text("kind = 'check' AND status IN ('pending', 'running')"),
        ),
        # "the jobs of this event"
        Index("ix_jobs_event_id", "event_id"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    kind: str
    source: str
    subject_kind: str
    subject: str | None = None
    endpoint_id: str | None = None
    event_id: int | None = Field(default=None, sa_column=Column(KEY, ForeignKey("events.id")))
    status: str = "pending"
    claims: int = 0
    failures: int = 0
    waits: int = 0
    next_attempt_at: datetime
    lease_token: str | None = None
    lease_until: datetime | None = None
    progress: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON_DOCUMENT))
    reason: str | None = None
    # Who made it due before its time: what it brings next came by this way. None: by its kind's.
    hurried_by: FoundBy | None = Field(default=None, sa_column=way("hurried_by"))
    created_at: datetime
    # Since when attempts fail; None again when the source is paused, which does not count.
    trying_since: datetime | None = None
    # Since when the sender says that it does not know the subject; None again after "not yet".
    missing_since: datetime | None = None
    ended_at: datetime | None = None


class Attempt(SQLModel, table=True):
    """One attempt at a job."""

    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_job_id", "job_id"),)

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    job_id: int = Field(sa_column=Column(KEY, ForeignKey("jobs.id"), nullable=False))
    started_at: datetime
    milliseconds: float
    outcome: str
    detail: str | None = None


class SourceState(SQLModel, table=True):
    """A paused source: why, since when, and when the next probe is made."""

    __tablename__ = "source_state"

    source: str = Field(primary_key=True)
    paused_reason: str | None = None
    paused_at: datetime | None = None
    probe_at: datetime | None = None
    probes: int = 0


class RateLimit(SQLModel, table=True):
    """The time of a source's next call, in seconds since 1970, over all processes."""

    __tablename__ = "paces"

    source: str = Field(primary_key=True)
    next_at: float
