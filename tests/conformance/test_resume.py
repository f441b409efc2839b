"""A receiver that is killed in the middle of a listing goes on, and does nothing twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from receiver.sandbox import SandboxServer, Switches, serve_in_thread
from receiver.settings import GivenSettings
from tests import databases
from tests.conformance.cases import CASES, Case
from tests.conformance.sink import PAUSE, Sink, write_settings
from tests.databases import Maker
from tests.processes import Receiver, free_port, until
from tests.receiver.working import died

RUNS = 9
FAULTS: dict[str, list[dict[str, Any]]] = {
    "valyu": [{"match": "?*last_key=*", "after": 1}],
    "parallel": [{"match": "?*last_event_id=*", "after": 1}],
    "parallel-v0": [{"match": "", "kind": "cut"}, {"match": ""}],
}
"""Faults that keep each sender's listing in its middle: it hangs, unless a kind is named."""


@dataclass(frozen=True)
class Story:
    """The contents of the store at the kill and in the end, by the source's name."""

    sink: Sink
    batches: dict[str, str]
    at_the_kill: dict[str, list[dict[str, Any]]]
    calls_at_the_kill: dict[str, int]
    calls: dict[str, int]


def hang(sandbox: SandboxServer) -> None:
    """Have every listing stop in its middle, for as long as nobody kills who waits for it."""
    for name, faults in FAULTS.items():
        for fault in faults:
            match = CASES[name].lists + fault["match"]
            sandbox.add_fault(**{"kind": "hang", **fault, "match": match})


@pytest.fixture(scope="module")
def story(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One batch of each provider; kill -9 while all of them are being listed, and another start."""
    folder = tmp_path_factory.mktemp("killed")
    switches = Switches(duration=(0, 0), hold=True, max_page_size=3, parallel_drop_after=3)
    port = free_port()
    with maker.made(folder) as url, serve_in_thread(switches) as sandbox:
        given = {**databases.settings(url), "public_url": f"http://127.0.0.1:{port}"}
        sources = {name: case.source(sandbox, folder) for name, case in CASES.items()}
        write_settings(folder, given, sources)
        settings = GivenSettings.model_validate({**given, "sources": sources})
        with databases.opened(url) as store:
            sink = Sink(settings, store, given["public_url"])
            receiver = Receiver(folder / "log", {"config": f"{folder}/resultsink.toml"}, port=port)
            receiver.start()
            yield tell(sink, sandbox, receiver)


def hurried(sink: Sink, sandbox: SandboxServer) -> bool:
    """Return True once every listing hangs; nobody waits after a failed attempt."""
    sink.hurry("failures > 0")
    return bool(sandbox.state()["faults"] == [])


def tell(sink: Sink, sandbox: SandboxServer, receiver: Receiver) -> Story:
    """From the creation to the last result."""
    try:
        batches = {name: sink.create(case, RUNS) for name, case in CASES.items()}
        hang(sandbox)
        sandbox.change(hold=False)
        until(lambda: hurried(sink, sandbox), pause=PAUSE)
        until(lambda: all(sink.store.batches.ledger(each).stored for each in batches.values()))
        receiver.kill()
        died(sink.store)
        at_the_kill = {name: sink.results(batch_id) for name, batch_id in batches.items()}
        before = sandbox.state()["calls"]
        receiver.start()
        for batch_id in batches.values():
            sink.complete(batch_id)
        after = sandbox.state()["calls"]
    finally:
        if receiver.process is not None:
            receiver.stop()
    return Story(sink, batches, at_the_kill, before, after)


def test_killed_listing_resumes_after_stored_part(case: Case, story: Story) -> None:
    first = story.at_the_kill[case.name]
    assert 0 < len(first) < RUNS
    results = story.sink.results(story.batches[case.name])
    assert [result["run_id"] for result in results] == story.sink.runs(story.batches[case.name])
    assert [result["version"] for result in results] == [1] * RUNS
    stored = {result["run_id"]: result["digest"] for result in results}
    assert {result["run_id"]: result["digest"] for result in first}.items() <= stored.items()


def test_events_before_kill_are_there_once(case: Case, story: Story) -> None:
    resources = [story.batches[case.name], *story.sink.runs(story.batches[case.name])]
    assert len(story.sink.events(*resources)) == case.deliveries(RUNS)


def test_stored_pages_are_not_asked_again(story: Story) -> None:
    """v0's export has no cursor: it comes whole once more."""
    more = {name: story.calls[name] - story.calls_at_the_kill.get(name, 0) for name in story.calls}
    assert more["GET /deepresearch/batches/{batch_id}/tasks"] == 1
    assert more["GET /tasks/groups/{group_id}/runs"] <= 2
    assert more["GET /v0/tasks/{task_id}/batches/{batch_run_id}/export"] == 1
