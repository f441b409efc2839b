"""A small sender makes a small provider: account-level webhooks and single runs, nothing else."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from receiver import sources
from receiver.errors import Unavailable, UsageError
from receiver.json_values import strictly, text, word
from receiver.providers.capabilities.require import require_batches
from receiver.providers.capabilities.runs import CreatesRuns
from receiver.providers.model import Announcement, Created, NewRun, Request, Subject
from receiver.sender_api.calls import Calls
from receiver.signatures.schemes import TIMESTAMP_BODY
from receiver.sources import Source
from receiver.submissions.batches import BatchSubmissions
from receiver.submissions.tasks import TaskSubmissions
from storage import TERMINAL, FetchedRun, Store
from tests.receiver.conftest import SECRET, Taking
from tests.receiver.working import (
    a_source,
    announce,
    answering,
    job,
    jobs,
    known,
    stored,
    work_off,
)

pytestmark = pytest.mark.sqlite  # no SQL is in it

PUBLIC = "https://receiver.test"
RUN = "run_1"
STATUSES = {"working": "running", "completed": "completed", "failed": "failed"}
SAID = {"id": RUN, "state": "completed", "question": "who?", "answer": {"ceo": "Jane"}}


@dataclass(frozen=True)
class Small(CreatesRuns):
    """A sender as small as can be, whole."""

    name = "small"
    scheme = TIMESTAMP_BODY
    base_url = "https://sender.test"
    kinds = frozenset({"run"})
    announced_at = "account"
    statuses = STATUSES

    def identify(self, body: bytes) -> Announcement | None:
        parsed = strictly(body, frozenset({"id", "state"}))
        run_id = word(parsed.get("id")) if parsed else None
        if parsed is None or run_id is None:
            return None
        status = word(parsed.get("state"))
        return Announcement("run", run_id, status=status, is_end=status != "working")

    def new_run(self, options: Mapping[str, Any]) -> NewRun:
        question = text(options.get("input"))
        if question is None:
            raise ValueError("the question is missing: give --input")
        return NewRun({"question": question}, {"question": question})

    def create_run(self, new: NewRun, *, webhook_url: str | None) -> Request:
        return Request("POST", "/runs", json={**new.body, "notify": webhook_url})

    def read_created_run(self, data: object) -> Created:
        run_id = word(data.get("id")) if isinstance(data, dict) else None
        if run_id is None:
            raise Unavailable("the answer to the create call names no run")
        return Created(run_id)

    def run(self, run: Subject) -> Sequence[Request]:
        return [Request("GET", f"/runs/{run.id}")]

    def read_run(self, data: object, run: Subject) -> FetchedRun:
        if not isinstance(data, dict) or data.get("id") != run.id:
            raise Unavailable(f"the answer is not about {run.id}")
        state = word(data.get("state")) or "unknown"
        status = self.statuses.get(state, "running")
        return FetchedRun(
            run_id=run.id,
            status=status,
            sender_status=state,
            raw=data,
            output=data.get("answer"),
            error=text(data.get("error")),
            has_output=status in TERMINAL and data.get("answer") is not None,
        )


class SmallSender:
    """Answers every call with its one run, and keeps the calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.created: Any = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((request.method, request.url.path))
        if request.method == "POST":
            self.created = json.loads(request.content)
            return httpx.Response(200, json={"id": RUN, "state": "working"})
        return httpx.Response(200, json=SAID)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    """A source of the small sender, which bears the name that all sources of these tests have."""
    monkeypatch.setitem(sources.PROVIDERS, "small", Small)
    return a_source("https://sender.test", provider="small", signing_secrets=[SECRET])


def tasks_of(store: Store, source: Source, wire: httpx.AsyncClient) -> TaskSubmissions:
    return TaskSubmissions(store, Calls(source, wire), PUBLIC)


def test_a_small_provider_is_small() -> None:
    assert len(inspect.getsource(Small).splitlines()) < 60
    assert vars(Small).keys().isdisjoint({"headers", "judge", "probe", "run_kind", "below_tasks"})


async def test_run_is_created_announced_fetched_stored(store: Store, source: Source) -> None:
    sender = SmallSender()
    async with answering(sender) as wire:
        new = Small().new_run({"input": "who?"})
        assert await tasks_of(store, source, wire).create(new) == RUN
    assert sender.created == {"question": "who?", "notify": f"{PUBLIC}/webhooks/valyu"}

    body = json.dumps({"id": RUN, "state": "completed"}).encode()
    async with Taking(store, provider="small", signing_secrets=[SECRET]) as taking:
        first, second = [await taking.deliver(None, body) for _ in range(2)]
    assert (first.outcome, second.outcome) == ("accepted", "duplicate")
    assert job(store, kind="fetch")["subject"] == RUN

    await work_off(store, source, client=answering(sender))
    (result,) = stored(store)
    assert (result["run_id"], result["status"], result["batch_id"]) == (RUN, "completed", None)
    facts, raw = store.runs.show(RUN)
    assert (facts["input"], raw) == ({"question": "who?"}, SAID)
    assert job(store, kind="fetch")["status"] == "done"
    assert sender.calls == [("POST", "/runs"), ("GET", f"/runs/{RUN}")]


async def test_missing_capabilities_are_refused(store: Store, source: Source) -> None:
    known(store, "B")
    async with answering(SmallSender()) as wire:
        tasks, batches = (
            tasks_of(store, source, wire),
            BatchSubmissions(store, Calls(source, wire), PUBLIC),
        )
        for steer in (
            tasks.cancel(RUN),
            tasks.update(RUN, "more"),
            tasks.respond(RUN, {}, interaction="i"),
            batches.cancel("B"),
        ):
            with pytest.raises(UsageError, match="the API of source valyu has no call for it"):
                await steer
        with pytest.raises(UsageError, match="small has no batches: create single runs"):
            await batches.look("B")
    with pytest.raises(UsageError, match="small has no batches: create single runs"):
        require_batches(source.provider)


async def test_impossible_batch_is_buried_with_a_reason(store: Store, source: Source) -> None:
    sender = SmallSender()
    announce(store, "B", kind="batch")
    await work_off(store, source, client=answering(sender))
    (buried,) = jobs(store, status="dead")
    assert "the sender of source valyu has no batches" in buried["reason"]
    assert sender.calls == []
