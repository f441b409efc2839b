"""A job's progress: what one attempt leaves for the next, kept as JSON in the job's row."""

from typing import TypedDict


class ListingProgress(TypedDict, total=False):
    """The progress of a listing."""

    cursor: str | None
    """Where the sender goes on; None for the first page."""

    since: str
    """The start of the listing: ISO 8601, with a UTC offset."""

    listed: int
    """Runs named so far, counted from the first page."""

    restarts: int
    """Times that this attempt began anew because the sender refused the cursor."""

    size: int
    """Runs a page, where that is not the provider's usual number; 0: the sender's own default."""

    refused: int
    """The page size, in runs, that the sender refused before `size` became 0."""


class Progress(TypedDict, total=False):
    """The progress of a job, and hints from its event or endpoint. All keys are optional."""

    awaits_end: bool
    """False where the sender announced something else than an end: one look is enough then."""

    status: str | None
    """The sender's status of the run, as its webhook named it."""

    batch: str
    """The sender's id of the batch that the run is of, as its signed webhook named it."""

    again: bool
    """True where an event came again with another body: a stored result does not answer it."""

    listed_at: str
    """When the batch was last listed: ISO 8601, with a UTC offset."""

    every: float
    """Seconds between two looks of a check, where the usual growing intervals are too long."""

    listing: ListingProgress
    """The progress of the listing of the batch."""

    seen_without_output: dict[str, tuple[str, int]]
    """By run id: when a completed run was first seen without output (ISO 8601), how often since."""

    asked: list[str | None]
    """The sender's status and the interaction's id of the question to a person logged last."""

    refusals: int
    """Refusals of this job by the sender while no other call can show what it refuses."""
