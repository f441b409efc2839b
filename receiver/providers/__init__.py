"""Providers: one file for each kind of sender. Pure: no I/O, no clock.

A provider says how its sender signs, what identifies an event, which requests create, list and
fetch, and what an answer means. `receiver.calls` makes the requests, `receiver.fetch` decides
their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from receiver.schemes import Scheme
from storage import FetchedBatch, FetchedRun


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the sender's API, below its base URL."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API answered: `data` is the parsed JSON, None where it was none."""

    status: int
    headers: Mapping[str, str]
    data: Any


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
class NewTask:
    """A task to submit: the user's id, the query, what the sender takes, and the whole input."""

    task_id: str | None
    body: Mapping[str, Any]
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Created:
    """What the create call returned; the secret is shown only there."""

    batch_id: str
    secret: str | None


class Provider(Protocol):
    """A kind of sender."""

    name: str
    scheme: Scheme
    base_url: str
    kinds: frozenset[str]
    page_size: int
    tasks_per_call: int

    def identify(self, body: bytes) -> Announcement | None:
        """What a verified body is about, or None where it cannot be read."""

    def headers(self, api_key: str) -> Mapping[str, str]:
        """The headers that authorise a call."""

    def judge(self, answer: Answer, *, now: float) -> None:
        """Return for a usable answer; raise the FetchError that says what to do otherwise."""

    def create_batch(
        self, *, name: str | None, mode: str | None, webhook_url: str, schema: Any
    ) -> Request:
        """Create an empty batch."""

    def read_created(self, data: Any) -> Created:
        """The new batch; raises Unavailable where the answer does not name one."""

    def new_task(self, row: Mapping[str, Any]) -> NewTask:
        """A task from a row of a tasks file; raises ValueError that says what is wrong."""

    def add_tasks(self, batch_id: str, tasks: Sequence[NewTask]) -> Request:
        """Add at most `tasks_per_call` tasks."""

    def read_added(self, data: Any) -> Sequence[FetchedRun]:
        """The runs that were accepted, in the order of the request."""

    def cancel_batch(self, batch_id: str) -> Request:
        """Cancel a batch."""

    def batches(self) -> Request:
        """List the account's newest batches."""

    def read_batches(self, data: Any) -> Sequence[FetchedBatch]:
        """The batches of a listing."""

    def batch(self, batch_id: str) -> Request:
        """The status of a batch."""

    def read_batch(self, data: Any, batch_id: str) -> FetchedBatch:
        """The status of a batch; raises Unavailable where the answer is about something else."""

    def page(self, batch_id: str, *, cursor: str | None, size: int | None) -> Request:
        """One page of a batch's runs with their outputs; `size` None is the sender's own."""

    def read_page(self, data: Any, batch: FetchedBatch) -> Page:
        """The runs of a page; raises Unavailable where the answer is no page."""

    def run(self, run_id: str) -> Request:
        """One run with everything."""

    def read_run(self, data: Any, run_id: str) -> FetchedRun:
        """One run; raises Unavailable where the answer is about something else."""

    def read_carried(self, body: bytes, run_id: str) -> FetchedRun | None:
        """The result of a run that a verified body carried, for when the API has forgotten it."""
