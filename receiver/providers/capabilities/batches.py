"""Capabilities about batches: their status, listing their runs, creating and cancelling them."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from receiver.providers.base import Provider
from receiver.providers.model import (
    Callback,
    Created,
    NewTask,
    Page,
    Plan,
    Request,
    StreamFormat,
    StreamItem,
    Subject,
)
from storage import FetchedBatch, FetchedRun


class HasBatches(Provider):
    """A sender whose runs come in batches that have a status."""

    gathers: ClassVar[bool] = False
    """True where one listing brings, in few calls, what many webhooks announce."""

    @abstractmethod
    def batch(self, batch: Subject) -> Request:
        """Ask for the status of a batch."""

    @abstractmethod
    def read_batch(self, data: object, batch: Subject) -> FetchedBatch:
        """Read the status of a batch; raises Unavailable where it is about something else."""


class ListsPages(HasBatches):
    """A sender that lists a batch's runs, with their outputs, in pages."""

    page_size: ClassVar[int] = 100

    @abstractmethod
    def list_runs(self, batch: Subject, *, cursor: str | None, size: int | None) -> Request:
        """Ask for the page at `cursor`; a `size` of None leaves it to the sender."""

    @abstractmethod
    def read_page(self, data: object, batch: FetchedBatch) -> Page:
        """Read the runs of a page; raises Unavailable where the answer is no page."""


class StreamsRuns(HasBatches):
    """A sender that lists a batch's runs, with their outputs, in one stream."""

    resumes: ClassVar[bool] = False
    """True where a later stream can go on behind the cursor of an earlier one."""

    @property
    @abstractmethod
    def stream_format(self) -> StreamFormat:
        """Return the format of the stream."""

    @abstractmethod
    def stream_runs(self, batch: Subject, *, cursor: str | None) -> Request:
        """Ask for the runs behind `cursor`."""

    @abstractmethod
    def read_streamed(
        self, item: object, batch: FetchedBatch, *, defaults: Mapping[str, Any]
    ) -> StreamItem:
        """Read one item of a stream; raises Unavailable for one that reports a failure."""


class ListsBatches(HasBatches):
    """A sender that lists the account's batches, each with its webhook URL."""

    @abstractmethod
    def batches(self, limit: int = 100) -> Request:
        """Ask for the account's newest batches, `limit` at most."""

    @abstractmethod
    def read_batches(self, data: object) -> Sequence[FetchedBatch]:
        """Read the batches of a listing; raises Unavailable where the answer is none."""


class CancelsBatches(HasBatches):
    """A sender that cancels batches."""

    @abstractmethod
    def cancel_batch(self, batch: Subject) -> Request:
        """Cancel a batch."""


def take_task_id(row: dict[str, Any]) -> str | None:
    """Take the user's own id out of a row; raises ValueError where it has two of them."""
    found = [row.pop(name) for name in ("id", "task_id") if name in row]
    if len(found) > 1:
        raise ValueError("it has both an `id` and a `task_id`: leave one out")
    return str(found[0]) if found else None


class CreatesBatches(HasBatches):
    """A sender whose batches are made of the rows of a tasks file, in one of two ways.

    These are AddsToBatches and CallsBackPerRun.
    """

    columns: ClassVar[frozenset[str]]
    """Columns of a tasks file that have a meaning of their own."""
    required: ClassVar[str | None] = None
    """The column that every task must have."""

    @abstractmethod
    def new_task(self, row: Mapping[str, Any]) -> NewTask:
        """Make a task of a row of a tasks file; raises ValueError that says what is wrong."""

    def check(self, plan: Plan, tasks: Sequence[NewTask]) -> None:
        """Raise ValueError, one sentence, for a plan that this sender cannot carry out."""
        del plan, tasks

    def defaults(self, plan: Plan, tasks: Sequence[NewTask]) -> Mapping[str, object] | None:
        """Return what is stored with the batch because later calls and readings need it again."""
        del plan, tasks
        return None

    @abstractmethod
    def read_added(self, data: object) -> Sequence[FetchedRun]:
        """Return the runs that the sender accepted, in the order of the request."""


class AddsToBatches(CreatesBatches):
    """A sender that creates a batch empty, which costs nothing, and adds some tasks in each call.

    After a call whose answer was lost, `key_of` and `key_of_run` tell which runs are of its tasks.
    """

    tasks_per_call: ClassVar[int]
    grows: ClassVar[bool] = False
    """True where a batch whose runs have all ended takes more tasks."""

    @abstractmethod
    def create_batch(self, plan: Plan, *, webhook_url: str | None) -> Request:
        """Create an empty batch, announced at `webhook_url` where it has an endpoint of its own."""

    @abstractmethod
    def read_created(self, data: object) -> Created:
        """Return the new batch; raises Unavailable where the answer does not name it."""

    @abstractmethod
    def add_tasks(
        self,
        batch: Subject,
        tasks: Sequence[NewTask],
        *,
        defaults: Mapping[str, Any],
        callback: Callback | None,
    ) -> Request:
        """Add at most `tasks_per_call` tasks; `callback` is where the account's runs are announced.

        It is None where the batch itself has an endpoint, and where webhooks could not be verified.
        """

    def marked(self, task: NewTask, mark: str) -> NewTask:
        """Return a task with an id of ours in it, where the sender has a place for one."""
        del mark
        return task

    @abstractmethod
    def key_of(self, task: NewTask) -> str:
        """Return what a run of this task is known by in a listing."""

    @abstractmethod
    def key_of_run(self, run: FetchedRun) -> str | None:
        """Return the same of a listed run; None where it shows nothing of its task."""


class CallsBackPerRun(CreatesBatches):
    """A sender that makes a batch of a stored task in one call, with a callback for each run."""

    @abstractmethod
    def create_stored_task(self, plan: Plan, tasks: Sequence[NewTask]) -> Request:
        """Create the stored task that a plan without a `task_id` describes."""

    @abstractmethod
    def read_stored_task(self, data: object) -> str:
        """Return the stored task's id; raises Unavailable where the answer does not name it."""

    @abstractmethod
    def submit_batch(
        self,
        task_id: str,
        tasks: Sequence[NewTask],
        *,
        defaults: Mapping[str, Any],
        callbacks: Sequence[Callback],
    ) -> Request:
        """Make a batch with a run for each of `tasks`, which is announced at its callback."""

    @abstractmethod
    def read_submitted(self, data: object) -> str:
        """Return the batch's id; raises Unavailable where the answer does not name it."""
