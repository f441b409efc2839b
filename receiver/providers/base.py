"""Providers: one file for each kind of sender. Pure: no I/O, no clock.

A provider says how its sender signs, what identifies an event, which requests create, list and
fetch, and what an answer means. `receiver.sender_api.calls` makes the requests,
`receiver.work.fetch` decides their order.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from receiver.providers.model import (
    AnnouncedAt,
    Announcement,
    Answer,
    Artifact,
    Callback,
    Created,
    Listing,
    NewRun,
    NewTask,
    Page,
    Plan,
    Request,
    Streamed,
    Subject,
)
from receiver.signatures.schemes import AnyScheme
from storage import FetchedBatch, FetchedRun


class Provider(ABC):
    """A kind of sender: one file for each. What a sender has no call for keeps the default here.

    Its dataclass fields, where it has any, are what is unknown of the sender's API: a source sets
    them in its setting `api`.
    """

    name: ClassVar[str]
    scheme: ClassVar[AnyScheme]
    base_url: ClassVar[str]
    kinds: ClassVar[frozenset[str]]
    """What its webhooks speak of and we fetch; other kinds are recorded and ignored."""
    announced_at: ClassVar[AnnouncedAt]
    gathers: ClassVar[bool] = False
    """Whether one listing brings what many webhooks announce, in fewer calls than one for each."""
    resumes: ClassVar[bool] = False
    """Whether a later listing goes on behind the cursor of an earlier one."""
    grows: ClassVar[bool] = False
    """Whether a batch whose runs have all ended takes more."""
    below_tasks: ClassVar[bool] = False
    """Whether the addresses of batches and runs name a stored task too."""
    run_kind: ClassVar[str] = "run"
    """What its single runs are, among `kinds`."""
    statuses: ClassVar[Mapping[str, str]]
    """What its words for the status of a run mean, in ours."""
    page_size: ClassVar[int] = 100
    tasks_per_call: ClassVar[int]
    columns: ClassVar[frozenset[str]]
    """Columns of a tasks file that mean something to it."""
    required: ClassVar[str | None] = None
    """The column that every task must have."""

    @property
    @abstractmethod
    def listing(self) -> Listing:
        """How runs are listed."""

    # --- webhooks ------------------------------------------------------------------------------

    @abstractmethod
    def identify(self, body: bytes) -> Announcement | None:
        """What a verified body is about, or None where it cannot be read."""

    def read_carried(self, body: bytes, run_id: str) -> FetchedRun | None:
        """The result of a run that a signed body carried, for when the API has forgotten it."""
        del body, run_id
        return None

    # --- every call ----------------------------------------------------------------------------

    def headers(self, api_key: str) -> Mapping[str, str]:
        """The headers that authorise a call."""
        return {"x-api-key": api_key}

    @abstractmethod
    def judge(self, answer: Answer, *, now: float) -> None:
        """Return for a usable answer; raise the FetchError that says what to do otherwise."""

    def probe(self) -> Request | None:
        """A cheap call that only a refused account is refused; None where there is none."""
        return None

    # --- creating ------------------------------------------------------------------------------

    @abstractmethod
    def new_task(self, row: Mapping[str, Any]) -> NewTask:
        """A task from a row of a tasks file; raises ValueError that says what is wrong."""

    def check(self, plan: Plan, tasks: Sequence[NewTask]) -> None:
        """Raise ValueError, one sentence, for a plan that this sender cannot carry out."""
        del plan, tasks

    @abstractmethod
    def create_batch(
        self, plan: Plan, tasks: Sequence[NewTask], *, webhook_url: str | None
    ) -> Request | None:
        """Create an empty batch, or the stored task that a batch is of; None where there is one."""

    @abstractmethod
    def read_created(self, data: Any) -> Created:
        """What was created; raises Unavailable where the answer does not name it."""

    def defaults(self, plan: Plan, tasks: Sequence[NewTask]) -> Mapping[str, Any] | None:
        """What each addition and each reading must say again, to be kept with the batch."""
        del plan, tasks
        return None

    @abstractmethod
    def add_tasks(
        self,
        batch: Subject,
        tasks: Sequence[NewTask],
        *,
        defaults: Mapping[str, Any],
        callbacks: Sequence[Callback | None],
    ) -> Request:
        """Add at most `tasks_per_call` tasks; `callbacks` has one for each, as `announced_at` says.

        Where the sender takes all tasks in one call, that call makes the batch: `batch` is then
        the stored task, and the answer names the batch.
        """

    @abstractmethod
    def read_added(self, data: Any) -> Sequence[FetchedRun]:
        """The runs that were accepted, in the order of the request."""

    def cancel_batch(self, batch: Subject) -> Request | None:
        """Cancel a batch; None where the sender has no such call."""
        del batch
        return None

    # --- single runs ---------------------------------------------------------------------------

    def new_run(self, options: Mapping[str, Any]) -> NewRun:
        """A run as the user asked for it; raises ValueError, one sentence, that says what is wrong.

        The options are those of `task create` that were given, with underscores: texts, numbers
        and parsed JSON, lists where an option may be repeated; `file` as objects with their data.
        """
        del options
        raise ValueError(f"{self.name} has no single runs: make a batch of one with `batch create`")

    def create_run(self, new: NewRun, *, webhook_url: str | None) -> Request:
        """Create a run, announced at `webhook_url`."""
        raise NotImplementedError

    def read_created_run(self, data: Any) -> Created:
        """The run that was created; raises Unavailable where the answer does not name it."""
        raise NotImplementedError

    def update_run(self, run: Subject, instruction: str) -> Request | None:
        """Give a run one more instruction; None where the sender has no such call."""
        del run, instruction
        return None

    def cancel_run(self, run: Subject) -> Request | None:
        """Cancel a run; None where the sender has no such call."""
        del run
        return None

    def respond(self, run: Subject, interaction: str, response: Any) -> Request | None:
        """Answer what a run asks; None where the sender's runs ask nothing."""
        del run, interaction, response
        return None

    def example(self, waits_for: Mapping[str, Any]) -> Any:
        """An answer, as an example, to what a run asks; None where none is known."""
        del waits_for
        return None

    # --- reading -------------------------------------------------------------------------------

    def batches(self) -> Request | None:
        """List the account's newest batches; None where the sender has no such call."""
        return None

    def read_batches(self, data: Any) -> Sequence[FetchedBatch]:
        """The batches of a listing."""
        del data
        return ()

    @abstractmethod
    def batch(self, batch: Subject) -> Request:
        """The status of a batch."""

    @abstractmethod
    def read_batch(self, data: Any, batch: Subject) -> FetchedBatch:
        """The status of a batch; raises Unavailable where the answer is about something else."""

    @abstractmethod
    def list_runs(self, batch: Subject, *, cursor: str | None, size: int | None) -> Request:
        """A batch's runs with their outputs: one page of `size`, or a stream behind the cursor."""

    def read_page(self, data: Any, batch: FetchedBatch) -> Page:
        """The runs of a page; raises Unavailable where the answer is no page."""
        raise NotImplementedError

    def read_streamed(
        self, item: Any, batch: FetchedBatch, *, defaults: Mapping[str, Any]
    ) -> Streamed:
        """One item of a stream; raises Unavailable where it says that the stream has failed."""
        raise NotImplementedError

    @abstractmethod
    def run(self, run: Subject) -> Sequence[Request]:
        """The calls for one run with everything: the next one where one answers 404."""

    @abstractmethod
    def read_run(self, data: Any, run: Subject) -> FetchedRun:
        """One run; raises Unavailable where the answer is about something else."""

    def input(self, run: Subject) -> Request | None:
        """The call for a run's input, where it comes with nothing else."""
        del run
        return None

    def read_input(self, data: Any) -> dict[str, Any] | None:
        """A run's input; None where the answer holds none."""
        del data
        return None

    def artifacts(self, raw: Mapping[str, Any]) -> Sequence[Artifact]:
        """The files that a result points to."""
        del raw
        return ()
