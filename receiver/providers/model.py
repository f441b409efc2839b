"""What providers take and return: requests, answers, announcements, plans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from storage import FetchedRun


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the sender's API, below its base URL.

    `waits` is for a call that the sender holds back until there is what it is for: a timeout of
    his (408) then says "not yet".
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What a call is about: a batch, a run, or what else the provider has kinds for.

    `task_id` is the stored task below which it lives, where the sender's addresses need that.
    `status` is what was announced of it, in the sender's word; None where nothing was.
    """

    kind: str
    id: str
    task_id: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered: `data` is the parsed JSON, None where it was none.

    `waited` is what `waits` was of its request.
    """

    status: int
    headers: Mapping[str, str]
    data: Any
    waited: bool = False


@dataclass(slots=True)  # not frozen: one is made for each delivery, and freezing doubles its cost
class Announcement:
    """What a verified body says. `status` is None where it cannot be read.

    `is_end` is False only where the sender clearly speaks of something that goes on.
    """

    kind: str
    resource: str
    batch_id: str | None = None
    status: str | None = None
    stamp: str | None = None
    is_end: bool = True

    @property
    def key(self) -> str | None:
        """The event key: kind, resource, status, and the sender's stamp where present."""
        if self.status is None:
            return None
        key = f"{self.kind}:{_part(self.resource)}:{_part(self.status)}"
        return key if self.stamp is None else f"{key}:{self.stamp}"


def _part(word: str) -> str:
    """A part of a key, in which the separator cannot stand."""
    return word.replace("%", "%25").replace(":", "%3A")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a batch's runs, the key to the next one, and whether the sender says there is."""

    runs: Sequence[FetchedRun]
    cursor: str | None
    has_more: bool


@dataclass(frozen=True, slots=True)
class Streamed:
    """What one item of a streamed listing tells: a run, and the cursor behind which to go on."""

    run: FetchedRun | None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to submit: the user's id, what the sender takes, and the whole input."""

    task_id: str | None
    body: Mapping[str, Any]
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a new batch is to be, as the user asked for it; None takes the sender's default.

    runner: who does the work (Valyu: mode; Parallel: processor; v0: runner). schema: a JSON schema
    for the outputs. prompt: the text of a stored task to make, or task_id one that there is.
    """

    name: str | None = None
    runner: str | None = None
    schema: Any = None
    prompt: str | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """A single run to create: what the sender takes, and what is kept of it as the run's input.

    `may_ask` is whether the run may stop to ask a person something.
    """

    body: Mapping[str, Any] = field(repr=False)
    input: Mapping[str, Any]
    runner: str | None = None
    may_ask: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """What a create call returned; the secret is shown only there."""

    id: str
    secret: str | None = None


@dataclass(frozen=True, slots=True)
class Callback:
    """Where the sender is to announce a run, and the secret that it is to prove itself with."""

    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a result points to."""

    kind: str
    id: str | None
    title: str | None
    url: str | None
    status: str | None = None


Listing = Literal["pages", "events", "documents", "rows"]
"""How a batch's runs are listed: JSON pages; or one stream of server-sent events, of JSON
documents, or of CSV rows."""

AnnouncedAt = Literal["batch", "account", "run"]
"""Whose endpoint a batch's webhooks come to."""
