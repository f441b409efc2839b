"""Handlers of background jobs, by the kind of job.

A new kind of job is a file with its handler, and a row in `HANDLERS`.
"""

from collections.abc import Callable
from typing import Protocol

from receiver.errors import FetchError, Unavailable
from receiver.sender_api.calls import Calls
from receiver.work.fetch import Fetch
from storage import Lease, Store


class Handler(Protocol):
    """Does the jobs of one source that are of its kinds."""

    async def attempt(self, lease: Lease) -> str:
        """Do the job; returns one sentence for the attempt once it is done.

        Raises a FetchError, which decides when the next attempt follows, where it is not done.
        """

    async def salvage(self, lease: Lease, error: FetchError) -> str | None:
        """Do without the sender what a job is for that is about to be buried for this error.

        Returns one sentence where that ends the job well, and None where it is to be buried.
        """


HANDLERS: dict[str, Callable[[Store, Calls], Handler]] = {
    "fetch": Fetch,
    "check": Fetch,
}


class Handlers:
    """The handlers of one source's jobs."""

    def __init__(self, store: Store, calls: Calls) -> None:
        self._of_kind = {kind: make(store, calls) for kind, make in HANDLERS.items()}

    def of(self, kind: str) -> Handler:
        """Return the handler of a kind of job; jobs of an unknown kind fail and are retried."""
        return self._of_kind.get(kind) or _UnknownKind()


class _UnknownKind:
    """Handler of jobs that another version has made: they wait for a version that knows them."""

    async def attempt(self, lease: Lease) -> str:
        raise Unavailable(f"this version of resultsink cannot do jobs of the kind {lease.kind!r}")

    async def salvage(self, lease: Lease, error: FetchError) -> str | None:
        del lease, error
        return None
