"""The story of a batch: its ledger, and all that explains the numbers in it."""

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import Connection

from storage.batches import arrivals, submissions, webhooks
from storage.batches import ledger as ledgers
from storage.batches.arrivals import Arrivals, SenderCounts
from storage.batches.ledger import Ledger, UnstoredRun
from storage.batches.webhooks import Webhooks
from storage.deliveries import dead_letters
from storage.deliveries.dead_letters import BatchDeadLetter, LastAttempt
from storage.jobs import checks, pauses
from storage.jobs.checks import NextLook
from storage.jobs.pauses import PausedSource

MAX_MISSING_RUNS = 1_000
"""Missing runs that a story names; it counts them all."""


class UnfinishedSubmission(TypedDict):
    """A submission to a batch that is not finished: `done` of its `total` tasks are added."""

    id: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class BatchStory:
    """A batch at one moment, so that nothing in it contradicts anything else.

    read_at: that moment.
    missing_runs: the first of the runs that have no result.
    unnamed: expected runs that are not named yet, so that no row can stand for them.
    arrivals: by which way the stored results came, and what they cost.
    sender: the sender's own counts, None before it was first asked.
    next_look: when the sender is asked next; None where no look is to come.
    paused: why its source is not asked now, where it is paused.
    webhooks: deliveries that were refused.
    dead: dead letters that keep results away.
    last_attempt: the newest look, None before the first.
    unfinished: submissions of which tasks are still to be added.
    """

    ledger: Ledger
    read_at: datetime
    missing_runs: list[UnstoredRun]
    unnamed: int
    arrivals: Arrivals
    sender: SenderCounts | None
    next_look: NextLook | None
    paused: PausedSource | None
    webhooks: Webhooks
    dead: list[BatchDeadLetter]
    last_attempt: LastAttempt | None
    unfinished: list[UnfinishedSubmission]

    def as_dict(self) -> dict[str, Any]:
        """Return all of it by name, as programs read it."""
        return {
            **self.ledger.as_dict(),
            "read_at": self.read_at,
            "unnamed": self.unnamed,
            "missing_runs": self.missing_runs,
            **asdict(self.arrivals),
            "sender_counts": self.sender,
            "next_look": self.next_look,
            "paused": self.paused,
            "webhooks": asdict(self.webhooks),
            "dead": self.dead,
            "last_attempt": self.last_attempt,
            "unfinished": self.unfinished,
        }


def story(connection: Connection, batch: Ledger, *, runs: int, now: datetime) -> BatchStory:
    """Return the story of a batch; the ledger was read in the same transaction."""
    named = batch.source, batch.batch_id
    return BatchStory(
        ledger=batch,
        read_at=now,
        missing_runs=ledgers.unstored(connection, *named, limit=runs),
        unnamed=batch.expected - batch.known,
        arrivals=arrivals.of_batch(connection, *named),
        sender=arrivals.by_sender(connection, *named),
        next_look=checks.next_look(connection, *named),
        paused=pauses.find(connection, batch.source),
        webhooks=webhooks.of_batch(connection, batch),
        dead=dead_letters.dead_of(connection, *named),
        last_attempt=dead_letters.last_attempt_of(connection, *named),
        unfinished=_unfinished(connection, *named),
    )


def _unfinished(connection: Connection, source: str, batch_id: str) -> list[UnfinishedSubmission]:
    return [
        {"id": known.id, "done": known.done, "total": known.total}
        for known in submissions.list_all(connection, source=source, batch_id=batch_id)
    ]
