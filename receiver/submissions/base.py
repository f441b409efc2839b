"""Base of the use cases that create something at a source's sender."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from receiver.errors import ReceiverError
from receiver.providers.model import Plan, Request
from receiver.sender_api.calls import Calls
from receiver.sources import webhook_url
from receiver.submissions.callback_urls import in_words, reachable
from receiver.submissions.retries import STORE_SECONDS, failed, keep_trying, with_retries
from receiver.telemetry.logs import get_logger
from storage import Store, Submission

SETTLE_SECONDS = 75.0
"""Time after which a call whose answer was lost is no longer under way: longer than a call may wait
for its answer, so that what the sender does not show then was not done."""

T = TypeVar("T")
S = TypeVar("S", bound="Submissions")

log = get_logger("submissions")


class Submissions:
    """Use cases on one source, with its store and its calls.

    public_url: our address as the sender reaches it. warn: called with one sentence for each thing
    that the user should know although the work goes on. store_seconds: for how long to try to
    store what the sender says only once. settle_seconds: for how long a lost call may be under way.
    """

    def __init__(
        self,
        store: Store,
        calls: Calls,
        public_url: str | None,
        *,
        warn: Callable[[str], None] = log.warning,
        store_seconds: float = STORE_SECONDS,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._store = store
        self._calls = calls
        self._source = calls.source
        self._provider = calls.source.provider
        self._public_url = public_url
        self._warn = warn
        self._store_seconds = store_seconds
        self._settle_seconds = settle_seconds

    def _beside(self, kind: type[S]) -> S:
        """Return other use cases on the same source."""
        return kind(
            self._store,
            self._calls,
            self._public_url,
            warn=self._warn,
            store_seconds=self._store_seconds,
            settle_seconds=self._settle_seconds,
        )

    def _reachable(self) -> str:
        """Return our public URL; raises UsageError where none is set."""
        return reachable(self._public_url)

    def _webhook_url(self, endpoint_id: str) -> str:
        """Return the URL of an endpoint; raises UsageError where no public URL is set."""
        return webhook_url(self._reachable(), self._source.name, endpoint_id)

    @property
    def _first_check(self) -> str:
        """The time before the first check of what is made, in words."""
        return in_words(self._store.first_check)

    async def _call(self, request: Request) -> Any:
        """Return the parsed answer to a call that creates or changes something."""
        return await with_retries(self._calls, request)

    async def _keep_trying(self, write: Callable[[], T]) -> T:
        """Store what the sender says only once; raises the last StorageError."""
        return await keep_trying(write, seconds=self._store_seconds)

    def _failed(self, sentence: str) -> ReceiverError:
        """Return the error for a call that the sender refused."""
        return failed(self._calls, sentence)

    async def _settle(self, known: Submission) -> None:
        """Return once the call that was begun last is no longer under way."""
        assert known.called_at is not None  # noqa: S101  it was begun
        left = known.called_at + timedelta(seconds=self._settle_seconds) - self._store.now()
        if left > timedelta():
            seconds = left.total_seconds()
            self._warn(f"The last call may still be under way: looking again in {seconds:.0f} s.")
            await asyncio.sleep(seconds)


def plan_of(known: Submission) -> Plan:
    """Return what the user asked for, as it was stored."""
    return Plan(**known.plan)


def command_to_resume(known: Submission) -> str:
    """Return the command that goes on with a submission."""
    group = "task" if known.kind == "run" else "batch"
    return f"resultsink {group} create --resume {known.id}"
