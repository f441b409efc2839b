"""A command that is killed while it submits is gone on with: each task is at the sender once."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from receiver.sandbox import SandboxServer
from tests.chaos.places import Place
from tests.chaos.processes import sandbox
from tests.processes import COMMAND, Receiver, command, environment, free_port, until

LONG = "CHAOS_KILLS" in os.environ
UNFINISHED = "SELECT count(*) FROM submissions"
LONG_AGO = "UPDATE submissions SET called_at = '2020-01-01 00:00:00.000000'"

SOURCES: Mapping[str, Mapping[str, Any]] = {
    "valyu": {
        "base": "/v1",
        "tasks": 130,  # two calls
        "options": (),
        "adds": "POST /deepresearch/batches/*/tasks",
    },
    "parallel": {
        "base": "",
        "tasks": 3,
        "options": ("--processor", "core"),
        "adds": "POST /tasks/groups/*/runs",
    },
    "parallel-v0": {
        "base": "",
        "tasks": 3,
        "options": ("--runner", "neon", "--prompt", "Find ${query}"),
        "adds": "POST /v0/tasks/*/batches",
    },
}
"""Of each sender: its base URL, what its batches need, and the call that costs money."""


class Submitting:
    """A user's commands for one source, on one place."""

    def __init__(self, name: str, place: Place, sender: SandboxServer) -> None:
        self.name = name
        self.place = place
        self.sender = sender
        self.tasks = int(SOURCES[name]["tasks"])
        self.receiver = Receiver(place.folder / "receiver.log", {}, port=free_port())
        self.settings = {
            **place.settings,
            "public_url": self.receiver.url,
            f"sources__{name}__api_key": "val_chaos",
            f"sources__{name}__base_url": sender.url + SOURCES[name]["base"],
            f"sources__{name}__requests_per_second": "1000",
        }
        self.receiver.settings = self.settings
        tasks = place.folder / "tasks.csv"
        tasks.write_text("\n".join(["query", *map(str, range(self.tasks)), ""]))
        options = [*SOURCES[name]["options"], "--tasks", str(tasks)]
        self.create = ("batch", "create", name, *options)

    def launch(self, *under: str, **env: str) -> subprocess.Popen[bytes]:
        """Begin to create the batch, perhaps as a program that will kill itself."""
        return subprocess.Popen(  # noqa: S603  our own program
            [*(under or COMMAND), *self.create],
            env={**environment(self.settings), **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def resume(self) -> subprocess.CompletedProcess[str]:
        """Go on, as if that were long after the kill."""
        engine = sqlalchemy.create_engine(self.place.books_url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text(LONG_AGO))
        return command("batch", "create", "--resume", settings=self.settings)

    def resume_to_the_end(self) -> None:
        """Go on until all is submitted; at v0 only callbacks can tell what was."""
        ended = self.resume()
        if ended.returncode == 1 and "The sender lists no batches" in ended.stderr:
            self.await_callback()
            ended = self.resume()
        assert (ended.returncode, ended.stdout != "") == (0, True), ended.stderr

    def await_callback(self) -> None:
        self.receiver.start()
        try:
            self.sender.change(hold=False)
            until(lambda: self.number("SELECT count(*) FROM runs WHERE batch_id IS NOT NULL"))
        finally:
            self.receiver.stop()

    def number(self, query: str) -> int:
        return self.place.books.number(query)

    def made(self) -> list[int]:
        """Return the number of runs in each batch at the sender; an empty group costs nothing."""
        state = self.sender.state()
        counts = [batch["counts"]["total"] for batch in state["batches"]]
        counts += [group["status"]["num_task_runs"] for group in state["parallel_groups"]]
        counts += [sum(runs.values()) for runs in state["v0_batches"].values()]
        return [count for count in counts if count]

    def check(self) -> None:
        """Assert that one batch has each task once, and that nothing is unfinished."""
        assert self.made() == [self.tasks]
        assert self.number(UNFINISHED) == 0
        listed = command("batch", "list", "--json", settings=self.settings)
        expected = [batch["expected"] for batch in json.loads(listed.stdout)]
        assert self.tasks in expected
        assert set(expected) <= {0, self.tasks}


@pytest.fixture(scope="module")
def running_sender() -> Iterator[SandboxServer]:
    with sandbox(duration=0, hold=True) as running:
        yield running


@pytest.fixture
def sender(running_sender: SandboxServer) -> SandboxServer:
    running_sender.reset()
    return running_sender


@pytest.mark.parametrize("name", SOURCES)
def test_kill_while_the_call_is_answered(name: str, place: Place, sender: SandboxServer) -> None:
    submitting = Submitting(name, place, sender)
    sender.add_fault(SOURCES[name]["adds"], kind="slow", seconds=600.0)
    process = submitting.launch()
    until(submitting.made)
    process.kill()
    assert process.wait() == -9
    submitting.resume_to_the_end()
    submitting.check()


@pytest.mark.skipif(not LONG, reason="CHAOS_KILLS=1 runs the long form; see also test_resume.py")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", SOURCES)
def test_death_at_each_commit(
    name: str, when: str, place: Place, sender: SandboxServer, tmp_path: Path
) -> None:
    submitting = Submitting(name, place, sender)
    assert command("db", "upgrade", settings=submitting.settings).returncode == 0
    for nth in itertools.count(1):
        sender.reset()
        died = submitting.launch(
            *(sys.executable, "-m", "tests.chaos.dying", when, str(nth)),
            DYING_COUNT=str(tmp_path / "commits"),
            PYTHONPATH=str(Path(__file__).parents[2]),
        )
        if died.wait() != -9:
            break
        if submitting.number(UNFINISHED):
            submitting.resume_to_the_end()
            submitting.check()
    assert nth > 4
