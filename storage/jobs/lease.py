"""Leases, each the right to work on a job for a while, and the outcomes of attempts."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from storage.jobs.progress import Progress
from storage.json_text import clean
from storage.models import FoundBy

LEASE_SECONDS = 13.0
"""How long a lease lasts. Its end is noticed within a second: the jobs of a dead machine start
elsewhere within 15 s."""

RENEW_SECONDS = 5.0
"""How often a worker renews its leases."""


@dataclass(slots=True)
class Lease:
    """A claimed job, with the right to write about it until another worker claims it.

    `progress` changes while the job is worked on; so do `failures`, `waits` and `trying_since`,
    which are reset when it brings something new.
    """

    job_id: int
    token: str
    kind: str
    source: str
    subject_kind: str
    subject: str | None
    endpoint_id: str | None
    event_id: int | None
    failures: int
    waits: int
    progress: Progress
    created_at: datetime
    trying_since: datetime | None = None
    missing_since: datetime | None = None
    hurried_by: FoundBy | None = None

    @property
    def found_by(self) -> FoundBy:
        """The way by which what this job brings was found; `hurried_by` says another than usual."""
        return self.hurried_by or ("check" if self.kind == "check" else "webhook")

    @property
    def key(self) -> tuple[int, str]:
        """The key of this lease, which a later lease of the same job does not have."""
        return self.job_id, self.token


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """One attempt at a job: when it began, how long it took, how it ended, and why."""

    started_at: datetime
    milliseconds: float
    outcome: str
    detail: str | None = None

    def __post_init__(self) -> None:
        """Clean the detail, which may quote a sender, of what no database takes."""
        object.__setattr__(self, "detail", clean(self.detail))

    @property
    def ended_at(self) -> datetime:
        """The time at which the attempt ended."""
        return self.started_at + timedelta(milliseconds=self.milliseconds)
