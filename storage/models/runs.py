"""Tables of batches, their runs, and the versions of results."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from storage.models.columns import JSON_DOCUMENT, KEY, FoundBy, one_of, way


class Batch(SQLModel, table=True):
    """A set of runs at the sender. `state` is ours; `sender_status` is the sender's.

    `task_id` is the stored task whose runs these are (Parallel v0). `defaults` must be repeated in
    each call that adds runs: the sender keeps them with each run, not with the batch (Parallel).
    `pending` are the tasks of unfinished submissions of which no answer is stored.
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
    pending: int = Field(
        default=0, sa_column=Column(Integer, nullable=False, server_default=text("0"))
    )
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
    input: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON_DOCUMENT))
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
    output: Any = Field(default=None, sa_column=Column(JSON_DOCUMENT))
    output_type: str | None = None
    sources: Any = Field(default=None, sa_column=Column(JSON_DOCUMENT))
    error: str | None = None
    cost: float | None = None
    completed_at: datetime | None = None
    fetched_at: datetime
    stored_at: datetime
    origin: str = "api"
    # By which way this version came; None where it was stored before that was noted.
    found_by: FoundBy | None = Field(default=None, sa_column=way("found_by"))
    cleaned: bool = False
    # JSON text exactly as received, escaped to ASCII: also what the databases would refuse.
    raw: str
    # For incremental readers; a sequencer will assign it after the commit, so that none is skipped.
    seq: int | None = Field(default=None, sa_column=Column(KEY))
    # When output, sources, error and raw were emptied for their age.
    pruned_at: datetime | None = None


EMPTIED = "null"
"""The JSON text in place of a raw answer that was pruned."""
