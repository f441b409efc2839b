"""Capabilities about single runs: creating and steering them, their inputs, results and files."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from receiver.providers.base import Provider
from receiver.providers.model import Artifact, Created, NewRun, Request, Subject
from storage import FetchedRun


class CreatesRuns(Provider):
    """A sender that creates runs one by one."""

    @abstractmethod
    def new_run(self, options: Mapping[str, Any]) -> NewRun:
        """Make a run of the user's options; raises ValueError, one sentence.

        The options are those of `task create` that were given, with underscores: texts, numbers
        and parsed JSON, lists where an option may be repeated; `file` as objects with their data.
        """

    @abstractmethod
    def create_run(self, new: NewRun, *, webhook_url: str | None) -> Request:
        """Create a run that is announced at `webhook_url`."""

    @abstractmethod
    def read_created_run(self, data: object) -> Created:
        """Return the new run; raises Unavailable where the answer does not name it."""


class MarksRuns(CreatesRuns):
    """A sender whose runs carry an id of ours, and show it whenever they are asked for."""

    @abstractmethod
    def marked_run(self, new: NewRun, mark: str) -> NewRun:
        """Return a run with an id of ours in it."""


class ListsRuns(CreatesRuns):
    """A sender that lists the account's single runs, each with its question."""

    runs_listed: ClassVar[int]
    """The most runs that one listing names."""

    @abstractmethod
    def runs(self) -> Request:
        """Ask for the account's newest single runs."""

    @abstractmethod
    def read_runs(self, data: object) -> Sequence[FetchedRun]:
        """Read the runs of a listing."""


class UpdatesRuns(Provider):
    """A sender whose runs take further instructions."""

    @abstractmethod
    def update_run(self, run: Subject, instruction: str) -> Request:
        """Give a run one more instruction."""


class CancelsRuns(Provider):
    """A sender that cancels single runs."""

    @abstractmethod
    def cancel_run(self, run: Subject) -> Request:
        """Cancel a run."""


class AsksQuestions(Provider):
    """A sender whose runs may stop to ask a person something."""

    @abstractmethod
    def respond(self, run: Subject, interaction: str, response: object) -> Request:
        """Answer the question `interaction` of a run."""

    @abstractmethod
    def example(self, waits_for: Mapping[str, object]) -> object:
        """Return an example of an answer to a question; None where none is known."""


class TellsInputs(Provider):
    """A sender that has a call of its own for a run's input, and shows it nowhere else."""

    @abstractmethod
    def input(self, run: Subject) -> Request:
        """Ask for a run's input."""

    @abstractmethod
    def read_input(self, data: object) -> dict[str, object] | None:
        """Return a run's input; None where the answer holds none."""


class EmbedsResults(Provider):
    """A sender whose webhooks may hold a whole result."""

    @abstractmethod
    def read_embedded(self, body: bytes, run_id: str) -> FetchedRun | None:
        """Return a run's result from a signed body, for a run that the API has forgotten."""


class HasArtifacts(Provider):
    """A sender whose results point to files."""

    @abstractmethod
    def artifacts(self, raw: Mapping[str, object]) -> Sequence[Artifact]:
        """Return the files that a result points to."""
