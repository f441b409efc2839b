"""Values that providers take and return: requests, answers, announcements, plans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from storage import FetchedRun

AnnouncedAt = Literal["endpoint", "account"]
"""Where webhooks come: at an endpoint that a batch or a run has for itself, or at the account's."""

StreamFormat = Literal["events", "documents", "rows"]
"""A stream of server-sent events, of JSON documents, or of CSV rows."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the sender's API, below its base URL.

    `waits` is True for a call that the sender may hold back until the result is there: a timeout
    of the sender (408) then means "not yet".
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """The resource that a call is about: a batch, a run, or another kind that the provider has.

    `task_id` is the stored task that its address names, where the sender's addresses do.
    `status` is the status that was announced, in the sender's word; None where none was.
    """

    kind: str
    id: str
    task_id: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API. `data` is the parsed JSON, None where it was none.

    `waited` is the `waits` of its request.
    """

    status: int
    headers: Mapping[str, str]
    data: object
    waited: bool = False


@dataclass(slots=True)  # not frozen: one is made for each delivery, and freezing doubles its cost
class Announcement:
    """The resource that a verified body names. `status` is None where it cannot be read.

    `is_end` is False only where the status clearly means that the work goes on.
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
    """Return a part of a key, in which the separator cannot stand."""
    return word.replace("%", "%25").replace(":", "%3A")


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a batch's runs, the cursor of the next page, and what the sender says of more."""

    runs: Sequence[FetchedRun]
    cursor: str | None
    has_more: bool


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One item of a streamed listing: a run, and the cursor behind which to go on."""

    run: FetchedRun | None
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to submit: the user's id, the object that the sender takes, and the whole input."""

    task_id: str | None
    body: Mapping[str, Any]
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """A batch to be made, as the user asked for it; None takes the sender's default.

    runner: who does the work (Valyu: mode; Parallel: processor; v0: runner). schema: a JSON schema
    for the outputs. prompt: the text of a stored task to make; task_id: a stored task that exists.
    """

    name: str | None = None
    runner: str | None = None
    schema: Any = None
    prompt: str | None = None
    task_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """A single run to create: the object that the sender takes, and what is stored as its input.

    `may_ask` is True where the run may stop to ask a person something.
    """

    body: Mapping[str, Any] = field(repr=False)
    input: Mapping[str, Any]
    runner: str | None = None
    may_ask: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """The id and the signing secret that a create call returned; no other call shows the secret.

    is_found: the answer was lost, and the id was found out in another way.
    """

    id: str
    secret: str | None = None
    is_found: bool = False


@dataclass(frozen=True, slots=True)
class Callback:
    """The URL at which the sender announces a run, and the secret with which it proves itself."""

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
