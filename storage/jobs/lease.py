"""A lease, which is the right to work on a job for a while, and what a try at it came to."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from storage.jobs.progress import Progress
from storage.json_text import clean

LEASE_SECONDS = 13.0
"""With the look that notices its end (a second) and a new claim, what a dead machine had in its
hands starts elsewhere within 15 s."""

RENEW_SECONDS = 5.0


@dataclass(slots=True)
class Lease:
    """A claimed job: what to do, and the right to write about it until somebody else claims it.

    `progress` and, by an acquittal, `failures` change while it is worked on.
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

    @property
    def key(self) -> tuple[int, str]:
        """What tells it from every other lease, also from a later one of the same job."""
        return self.job_id, self.token


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """One try of ours: when it began, how long it took, how it ended."""

    started_at: datetime
    milliseconds: float
    outcome: str
    detail: str | None = None

    def __post_init__(self) -> None:
        """A sender's words may hold what no database takes."""
        object.__setattr__(self, "detail", clean(self.detail))

    @property
    def ended_at(self) -> datetime:
        """When it was over."""
        return self.started_at + timedelta(milliseconds=self.milliseconds)
