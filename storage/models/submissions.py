"""Tables of submissions that are not finished: what is to be created, and how far that has come."""

from datetime import datetime
from typing import Any

from sqlalchemy import Column, ForeignKey, Index
from sqlmodel import Field, SQLModel

from storage.models.columns import JSON_DOCUMENT, KEY, one_of


class SubmissionRow(SQLModel, table=True):
    """A command that creates something at a sender; the row is deleted when it has ended.

    `calling` is the call that was begun last and whose outcome is not stored; with a NULL, nothing
    has happened at the sender that is not stored here. `before` are the runs that the sender
    counted in the batch when the submission began, `done` the tasks whose outcome is known, and
    `accepted` those of them that the sender took. `step` grows with each change: of two processes
    that go on at once, one finds it changed.
    """

    __tablename__ = "submissions"
    __table_args__ = (
        one_of("kind", "batch", "addition", "run"),
        one_of("calling", "task", "batch", "runs"),
        # "what is unfinished of this batch?"
        Index("ix_submissions_source_batch_id", "source", "batch_id"),
    )

    id: str = Field(primary_key=True)
    source: str
    kind: str
    batch_id: str | None = None
    endpoint_id: str | None = None
    task_id: str | None = None
    plan: dict[str, Any] = Field(sa_column=Column(JSON_DOCUMENT, nullable=False))
    defaults: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON_DOCUMENT))
    total: int
    skipped: int = 0
    before: int = 0
    done: int = 0
    accepted: int = 0
    calling: str | None = None
    called_at: datetime | None = None
    step: int = 0
    owner: str
    created_at: datetime


class SubmissionTask(SQLModel, table=True):
    """A task of a submission, as the sender takes it, and its whole input.

    `endpoint_id` is the endpoint of its own, where its run has one.
    """

    __tablename__ = "submission_tasks"

    submission_id: str = Field(
        sa_column=Column(ForeignKey("submissions.id"), primary_key=True, nullable=False)
    )
    position: int = Field(sa_column=Column(KEY, primary_key=True, nullable=False))
    task_id: str | None = None
    body: dict[str, Any] = Field(sa_column=Column(JSON_DOCUMENT, nullable=False))
    input: dict[str, Any] = Field(sa_column=Column(JSON_DOCUMENT, nullable=False))
    endpoint_id: str | None = None
