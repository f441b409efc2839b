"""Provider: what every kind of sender must say. Pure: no I/O, no clock.

A provider says how its sender signs, what a webhook announces, which request asks for a run, and
what an answer means. What only some senders have, such as batches, stands in `capabilities`.
`receiver.sender_api.calls` makes the requests, `receiver.work.fetch` decides their order. The first
line of a method that returns a Request says what that call does.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from receiver.providers import responses
from receiver.providers.model import AnnouncedAt, Announcement, Answer, Request, Subject
from receiver.signatures.schemes import AnyScheme
from storage import FetchedRun


class Provider(ABC):
    """A kind of sender. What it can do beyond this are the capabilities that it inherits.

    Each provider is a dataclass: its fields are what nobody knows of the sender's API, and a
    source sets them in its setting `api`.
    """

    name: ClassVar[str]
    scheme: ClassVar[AnyScheme]
    base_url: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    """Kinds of resources that webhooks announce and that are fetched; others are ignored."""
    announced_at: ClassVar[AnnouncedAt]
    run_kind: ClassVar[str] = "run"
    """The kind of its single runs, one of `kinds`."""
    statuses: ClassVar[Mapping[str, str]]
    """Our status (queued, running, completed, failed, cancelled) for each status of the sender."""
    currency: ClassVar[str | None] = None
    """The currency of the costs that its answers name; None where they name none."""
    below_tasks: ClassVar[bool] = False
    """True where the address of a batch or of a run names a stored task too."""

    @abstractmethod
    def identify(self, body: bytes) -> Announcement | None:
        """Return what a verified body announces, or None where it cannot be read."""

    @abstractmethod
    def run(self, run: Subject) -> Sequence[Request]:
        """Return the calls for a run with its result; each but the first follows a 404."""

    @abstractmethod
    def read_run(self, data: object, run: Subject) -> FetchedRun:
        """Read the answer to a call of `run`; raises Unavailable where it is about another run."""

    def headers(self, api_key: str) -> Mapping[str, str]:
        """Return the headers that authorise a call."""
        return {"x-api-key": api_key}

    def judge(self, answer: Answer, *, now: float) -> None:
        """Return for a usable answer; raise the FetchError that says what to do otherwise."""
        responses.judge(answer, now=now)

    def probe(self) -> Request | None:
        """Return a cheap call that only a refused account is refused; None where none is known."""
        return None
