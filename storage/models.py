"""The tables. Each constraint and index has the promise that it keeps, or the query that it serves.

Facts (events, deliveries, results, attempts) are not rewritten for bookkeeping; what changes often
(jobs, source_state) is narrow. Times are aware datetimes in UTC. Text and JSON columns hold cleaned
values (no NUL, no lone surrogates); `raw` columns hold what was received.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

KEY = BigInteger().with_variant(Integer, "sqlite")
"""A key of 64 bits; SQLite's own keys, under the plain name, are as wide."""

JSON_DOCUMENT = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

ORDERED_DOCUMENT = JSON(none_as_null=True)
"""A document whose keys become columns of an export: JSONB would sort them, by their length."""


def one_of(column: str, *values: str) -> CheckConstraint:
    """Return a constraint that refuses other values than these."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} IN ({listed})", name=f"{column}_known")


SQLModel.metadata.naming_convention = {
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}


class Meta(SQLModel, table=True):
    """Small facts: the encryption canary, the endpoints' revision, a day's idempotency keys."""

    __tablename__ = "meta"

    key: str = Field(primary_key=True)
    value: str


class Endpoint(SQLModel, table=True):
    """Our URL for a source, or for one expected batch, task or run. `id` is 128 random bits.

    `resource` is None until it is known what the sender made; `task_id` is the stored task below
    which it lives, where the sender's addresses need that (Parallel v0). `pending` means that the
    signing secret has not arrived yet.
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        one_of("kind", "batch", "task", "run", "contents", "account"),
        one_of("state", "pending", "open", "closed"),
        # "which endpoint expects this batch?"
        Index("ix_endpoints_source_resource", "source", "resource"),
    )

    id: str = Field(primary_key=True)
    source: str
    kind: str
    resource: str | None = None
    task_id: str | None = None
    state: str
    created_at: datetime
    closed_at: datetime | None = None


class Secret(SQLModel, table=True):
    """A signing secret of an endpoint, encrypted, with its validity span.

    `reading` is the key reading that last verified a delivery: it is shown, and tried first, but
    the others are tried too.
    """

    __tablename__ = "secrets"

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    endpoint_id: str = Field(foreign_key="endpoints.id", index=True)
    ciphertext: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    valid_from: datetime
    valid_until: datetime | None = None
    reading: str | None = None
    created_at: datetime


class Event(SQLModel, table=True):
    """What happened at the sender, once. Outlives its deliveries."""

    __tablename__ = "events"
    __table_args__ = (
        one_of("disposition", "fetch", "ignored", "unusable"),
        # Unique (source, event key), kept as the 16-byte digest of both: the same promise, and the
        # index stays a third of the size. This is what makes a redelivery harmless.
        UniqueConstraint("key_digest"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    source: str
    endpoint_id: str | None = None
    key: str
    key_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    disposition: str
    received_at: datetime


class Delivery(SQLModel, table=True):
    """A verified request as it came. `copies` counts the further ones with the same body."""

    __tablename__ = "deliveries"
    __table_args__ = (
        # Equal bodies of one event only count; also serves "the deliveries of this event".
        UniqueConstraint("event_id", "digest"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    event_id: int = Field(sa_column=Column(KEY, ForeignKey("events.id"), nullable=False))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    headers: str
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received_at: datetime
    copies: int = 0
    last_copy_at: datetime | None = None
    # When body and headers were emptied for their age.
    pruned_at: datetime | None = None


class Quarantined(SQLModel, table=True):
    """A request that was refused, kept within bounds for the operator."""

    __tablename__ = "quarantine"

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    source: str
    endpoint_id: str | None = None
    reason: str
    detail: str
    headers: str
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    body_bytes: int
    received_at: datetime


class Batch(SQLModel, table=True):
    """A set of runs at the sender. `state` is ours; `sender_status` is the sender's.

    `task_id` is the stored task whose runs these are (Parallel v0). `defaults` must be repeated in
    each call that adds runs: the sender keeps them with each run, not with the batch (Parallel).
    """

    __tablename__ = "batches"
    __table_args__ = (
        one_of("state", "open", "complete"),
        UniqueConstraint("source", "batch_id"),
        # "the batches that are announced at this endpoint", whenever a job of it ends
        Index("ix_batches_endpoint_id", "endpoint_id"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    source: str
    batch_id: str
    endpoint_id: str | None = None
    task_id: str | None = None
    name: str | None = None
    runner: str | None = None
    state: str = "open"
    sender_status: str | None = None
    submitted: int = 0
    defaults: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON_DOCUMENT))
    counts: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON_DOCUMENT))
    announced_at: datetime | None = None
    checked_at: datetime | None = None
    created_at: datetime
    completed_at: datetime | None = None


class Run(SQLModel, table=True):
    """One unit of research: expected, then known, then terminal.

    `waits_for` is the sender's question to a person while the run awaits an answer.
    """

    __tablename__ = "runs"
    __table_args__ = (
        one_of("status", "queued", "running", "completed", "failed", "cancelled"),
        UniqueConstraint("source", "run_id"),
        # The runs of a batch in the order in which we learned of them: ledger and export.
        Index("ix_runs_source_batch_id_id", "source", "batch_id", "id"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    source: str
    run_id: str
    batch_id: str | None = None
    task_id: str | None = None
    status: str
    sender_status: str | None = None
    runner: str | None = None
    input: dict[str, Any] | None = Field(default=None, sa_column=Column(ORDERED_DOCUMENT))
    waits_for: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON_DOCUMENT))
    created_at: datetime | None = None
    seen_at: datetime | None = None


class Result(SQLModel, table=True):
    """A version of the result of a run. Newer ones are appended; none is overwritten."""

    __tablename__ = "results"
    __table_args__ = (
        one_of("status", "completed", "failed", "cancelled"),
        one_of("origin", "api", "delivery"),
        UniqueConstraint("run_pk", "version"),
        # A run has one current version at most.
        Index(
            "uq_results_current",
            "run_pk",
            unique=True,
            sqlite_where=text("is_current"),
            postgresql_where=text("is_current"),
        ),
        # "superseded results, oldest first", for retention; there are few
        Index(
            "ix_results_superseded",
            "id",
            sqlite_where=text("NOT is_current"),
            postgresql_where=text("NOT is_current"),
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    run_pk: int = Field(sa_column=Column(KEY, ForeignKey("runs.id"), nullable=False))
    version: int
    is_current: bool
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    status: str
    output: Any = Field(default=None, sa_column=Column(ORDERED_DOCUMENT))
    output_type: str | None = None
    sources: Any = Field(default=None, sa_column=Column(JSON_DOCUMENT))
    error: str | None = None
    cost: float | None = None
    completed_at: datetime | None = None
    fetched_at: datetime
    stored_at: datetime
    origin: str = "api"
    cleaned: bool = False
    # JSON text exactly as received, escaped to ASCII: also what the databases would refuse.
    raw: str
    # For incremental readers; a sequencer will assign it after the commit, so that none is skipped.
    seq: int | None = Field(default=None, sa_column=Column(KEY))
    # When output, sources, error and raw were emptied for their age.
    pruned_at: datetime | None = None


EMPTIED = "null"
"""The JSON text in place of a raw answer that was pruned."""


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
    """When the next call of a source may be made, in seconds since 1970, over all processes."""

    __tablename__ = "paces"

    source: str = Field(primary_key=True)
    next_at: float


class Token(SQLModel, table=True):
    """Access to the API for a program. Only a digest is kept; the token is shown once.

    `source` None means all sources.
    """

    __tablename__ = "tokens"
    __table_args__ = (
        # "whose token is this?", for every request
        UniqueConstraint("digest"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    name: str
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    scopes: list[str] = Field(sa_column=Column(JSON_DOCUMENT, nullable=False))
    source: str | None = None
    created_at: datetime
    revoked_at: datetime | None = None
