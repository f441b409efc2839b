"""Submissions that died on the way: what may exist is found again, and nothing is made twice."""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection

from receiver.errors import NotDone, UsageError
from receiver.providers.capabilities.require import require_new_batches
from receiver.providers.model import Plan
from receiver.providers.parallel.provider import Parallel
from receiver.providers.valyu.provider import Valyu
from receiver.sandbox import SandboxServer
from receiver.sender_api.calls import Calls
from receiver.sender_api.client_pool import clients_for
from receiver.sources import Source
from receiver.submissions.batches import BatchSubmissions, NewBatch
from receiver.submissions.lost_calls import decide, matched
from storage import FetchedRun, Store, Submission, SubmissionTaken
from tests.receiver import working
from tests.receiver.conftest import until
from tests.receiver.creating import ADD, PUBLIC
from tests.receiver.working import a_source, answering, ledger, make_due, work_off

running_sender, sender = working.running_sender, working.sender

TASKS = 3
ANSWERED = ("valyu", "parallel")
"""Senders that tell what came of a call."""


class Sending(ABC):
    """One of the senders, and what it has been asked to do."""

    plan = Plan(name="n", runner="core")
    columns = ("query",)

    def __init__(self, sender: SandboxServer) -> None:
        self.sender = sender

    @property
    @abstractmethod
    def source(self) -> Source:
        """Return its source, which has the name that all have in these tests."""

    @abstractmethod
    def made(self) -> list[int]:
        """Return the number of runs in each batch that costs something."""


class ValyuSending(Sending):
    plan = Plan(name="n", runner="fast")

    @property
    def source(self) -> Source:
        return a_source(self.sender.api_url)

    def made(self) -> list[int]:
        return [batch["counts"]["total"] for batch in self.sender.state()["batches"]]


class ParallelSending(Sending):
    @property
    def source(self) -> Source:
        return a_source(self.sender.url, provider="parallel")

    def made(self) -> list[int]:
        groups = self.sender.state()["parallel_groups"]
        counts = [group["status"]["num_task_runs"] for group in groups]
        return [count for count in counts if count]  # an empty one costs nothing


class V0Sending(Sending):
    plan = Plan(name="n", runner="neon", prompt="Find ${query}")

    @property
    def source(self) -> Source:
        return a_source(self.sender.url, provider="parallel-v0")

    def made(self) -> list[int]:
        return [sum(runs.values()) for runs in self.sender.state()["v0_batches"].values()]

    def called_back(self, store: Store, known: Submission) -> None:
        (batch_id,) = self.sender.state()["v0_batches"]
        url = f"{self.sender.url}/v0/tasks/{known.task_id}/batches/{batch_id}"
        answer = httpx.get(url, headers={"x-api-key": "any"}, trust_env=False).json()
        run_id = answer["status_map"]["queued"][0]
        first, *_ = store.submissions.tasks(known)
        assert first.endpoint_id is not None
        store.endpoints.bind(first.endpoint_id, run_id, task_id=known.task_id)
        run = FetchedRun(run_id, "running", "running", {}, batch_id=batch_id)
        store.runs.note("valyu", run, fetched_at=store.now())


SENDING: dict[str, type[Sending]] = {
    "valyu": ValyuSending,
    "parallel": ParallelSending,
    "v0": V0Sending,
}


@pytest.fixture(params=SENDING)
def sending(request: pytest.FixtureRequest, sender: SandboxServer) -> Sending:
    """Each of the senders in turn."""
    return SENDING[request.param](sender)


@pytest.fixture(autouse=True)
def _small_calls(sender: SandboxServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are held, and two of the three tasks go into one call."""
    monkeypatch.setattr(Valyu, "tasks_per_call", 2)
    monkeypatch.setattr(Parallel, "tasks_per_call", 2)
    sender.change(hold=True)


class Died(BaseException):
    """The process has died; nothing that comes after this happens."""


class Death:
    """Lets the process die before or after its nth transaction that writes."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self._write = store.database.write
        self._left = 0
        self._when = ""
        monkeypatch.setattr(store.database, "write", self._count)

    def at(self, when: str, nth: int) -> None:
        self._when, self._left = when, nth

    def _count(self, work: Callable[[Connection], Any], **how: Any) -> Any:
        self._left -= 1
        if self._left == 0 and self._when == "before":
            raise Died
        value = self._write(work, **how)
        if self._left == 0:
            raise Died
        return value


class Commands:
    """The commands of a user, with what they say."""

    def __init__(self, store: Store, sending: Sending, *, settle_seconds: float = 0.0) -> None:
        self.store = store
        self.sending = sending
        self.said: list[str] = []
        self._how: dict[str, Any] = {"warn": self.said.append, "settle_seconds": settle_seconds}

    async def create(self, count: int = TASKS, **watched: Any) -> str:
        provider = require_new_batches(self.sending.source.provider)
        tasks = [provider.new_task({"query": f"q{number}"}) for number in range(count)]
        async with clients_for() as wire:
            batches = self._batches(wire)
            callbacks = {"created": lambda _: None, "added": lambda _: None, **watched}
            return await batches.create(NewBatch(self.sending.plan, tasks), **callbacks)

    async def add(self, batch_id: str, count: int = TASKS) -> None:
        provider = require_new_batches(self.sending.source.provider)
        tasks = [provider.new_task({"query": f"more {number}"}) for number in range(count)]
        async with clients_for() as wire:
            await self._batches(wire).add(batch_id, tasks, added=lambda _: None)

    async def resume(self, *, client: Any = None, **how: Any) -> str:
        (known,) = self.store.submissions.list_all()
        async with client or clients_for() as wire:
            return await self._batches(wire).resume(
                known, created=lambda _: None, added=lambda _: None, **how
            )

    async def give_up(self) -> None:
        (known,) = self.store.submissions.list_all()
        async with clients_for() as wire:
            await self._batches(wire).give_up(known)

    def _batches(self, wire: Any) -> BatchSubmissions:
        return BatchSubmissions(self.store, Calls(self.sending.source, wire), PUBLIC, **self._how)


@pytest.fixture
def commands(store: Store, sending: Sending) -> Commands:
    return Commands(store, sending)


@pytest.fixture
def valyu(store: Store, sender: SandboxServer) -> Commands:
    return Commands(store, ValyuSending(sender))


@pytest.mark.parametrize("when", ["before", "after"])
async def test_death_at_any_write_makes_nothing_twice(
    store: Store,
    commands: Commands,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    death, sending = Death(store, monkeypatch), commands.sending
    for nth in itertools.count(1):
        sending.sender.reset()
        sending.sender.change(hold=True)
        death.at(when, nth)
        try:
            await commands.create()
        except Died:
            death.at("", 0)
        else:
            break
        unfinished = store.submissions.list_all()
        if not unfinished:  # nothing was begun, or all was done
            assert sending.made() in ([], [TASKS])
            continue
        batch_id = await resumed(commands, unfinished[0])
        assert sending.made() == [TASKS], f"died {when} write {nth}"
        assert ledger(store, batch_id).expected == TASKS
        assert store.submissions.list_all() == []
    assert nth > 4


async def resumed(commands: Commands, known: Submission) -> str:
    """Resume, as soon as a run has called back where nothing else tells."""
    sending = commands.sending
    if not isinstance(sending, V0Sending) or known.calling != "runs":
        return await commands.resume()
    with pytest.raises(NotDone, match="The sender lists no batches"):
        await commands.resume()
    if not sending.made():  # which only this test knows
        return await commands.resume(repeat=True)
    sending.called_back(commands.store, known)
    return await commands.resume()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ANSWERED)
async def test_death_while_adding_makes_nothing_twice(
    store: Store, sender: SandboxServer, name: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = Commands(store, SENDING[name](sender))
    death = Death(store, monkeypatch)
    for nth in itertools.count(1):
        sender.reset()
        sender.change(hold=True)
        batch_id = await commands.create(1)
        death.at(when, nth)
        try:
            await commands.add(batch_id)
        except Died:
            death.at("", 0)
        else:
            break
        if store.submissions.list_all():
            assert await commands.resume() == batch_id
            assert commands.sending.made() == [1 + TASKS], f"died {when} write {nth}"
            assert ledger(store, batch_id).expected == 1 + TASKS
    assert nth > 4


# --- Valyu, one by one ----------------------------------------------------------------------------


async def half(valyu: Commands) -> str:
    """A batch of which two of three tasks are added; returns its id."""
    valyu.sending.sender.add_fault(ADD, status=402, after=1)
    with pytest.raises(NotDone, match=r"2 of 3 tasks were added .* --resume sub_\w+\.$"):
        await valyu.create()
    (batch,) = valyu.sending.sender.state()["batches"]
    return str(batch["batch_id"])


async def test_half_submitted_batch_is_never_complete(store: Store, valyu: Commands) -> None:
    batch_id = await half(valyu)
    valyu.sending.sender.change(hold=False)  # at the sender, the batch ends with its two tasks
    make_due(store)
    await work_off(store, valyu.sending.source)
    found = ledger(store, batch_id)
    assert (found.state, found.stored, found.expected) == ("open", 2, 3)
    with pytest.raises(NotDone, match=r"the other 1 need a batch of their own: batch create valyu"):
        await valyu.resume()
    await work_off(store, valyu.sending.source)
    assert (ledger(store, batch_id).state, ledger(store, batch_id).expected) == ("complete", 2)


async def test_tasks_that_are_there_count_once(store: Store, sender: SandboxServer) -> None:
    """The command was killed after its call, whose answer was slow."""
    parallel = Commands(store, ParallelSending(sender))
    batch_id = await parallel.create(1)
    sender.add_fault("POST /tasks/groups/*/runs", kind="slow", seconds=60.0)
    adding = asyncio.create_task(parallel.add(batch_id, 2))
    await until(lambda: parallel.sending.made() == [3])
    adding.cancel()
    await asyncio.gather(adding, return_exceptions=True)
    sender.change(hold=False)
    make_due(store)
    await work_off(store, parallel.sending.source)
    found = ledger(store, batch_id)
    assert (found.state, found.stored, found.expected, found.unsent) == ("open", 3, 3, 0)
    await parallel.resume()
    assert (ledger(store, batch_id).state, ledger(store, batch_id).expected) == ("complete", 3)


async def test_tasks_of_others_do_not_complete_it(store: Store, sender: SandboxServer) -> None:
    """As many as are still to be added, so that the counts alone would agree."""
    parallel = Commands(store, ParallelSending(sender))
    sender.add_fault("POST /tasks/groups/*/runs", status=402, after=1)
    with pytest.raises(NotDone):
        await parallel.create()
    (known,) = store.submissions.list_all()
    assert ledger(store, str(known.batch_id)).unsent == 1
    url = f"{sender.url}/v1/tasks/groups/{known.batch_id}/runs"
    body = {"inputs": [{"input": "others'", "processor": "core"}]}
    headers = {"x-api-key": "any"}
    httpx.post(url, json=body, headers=headers, trust_env=False).raise_for_status()
    sender.change(hold=False)
    make_due(store)
    await work_off(store, parallel.sending.source)
    found = ledger(store, str(known.batch_id))
    assert (found.state, found.stored, found.expected) == ("open", 3, 3)
    watched = store.batches.watched("valyu", found.batch_id)
    assert watched is not None
    assert watched.state == "open", "its checks go on"


async def test_given_up_batch_is_complete_without_the_rest(store: Store, valyu: Commands) -> None:
    batch_id = await half(valyu)
    await valyu.give_up()
    valyu.sending.sender.change(hold=False)
    make_due(store)
    await work_off(store, valyu.sending.source)
    assert (ledger(store, batch_id).state, ledger(store, batch_id).expected) == ("complete", 2)


async def test_unfinished_batch_takes_no_other_tasks(valyu: Commands) -> None:
    batch_id = await half(valyu)
    with pytest.raises(UsageError, match="1 tasks of an earlier command are still to be added"):
        await valyu.add(batch_id)


async def test_equal_tasks_of_before_are_no_new_ones(valyu: Commands) -> None:
    batch_id = await valyu.create(1)
    await valyu.add(batch_id, 1)
    valyu.sending.sender.add_fault(ADD, kind="reset")
    with pytest.raises(NotDone):
        await valyu.add(batch_id, 1)
    await valyu.resume()
    assert valyu.sending.made() == [3]


async def test_tasks_of_others_leave_it_to_the_user(store: Store, valyu: Commands) -> None:
    valyu.sending.sender.add_fault(ADD, kind="reset", after=1)
    with pytest.raises(NotDone, match="Whether the next 1 were added is not to be seen yet"):
        await valyu.create()
    (batch,) = valyu.sending.sender.state()["batches"]
    working.more_tasks(valyu.sending.sender, batch["batch_id"], ["others", "others' too"])
    with pytest.raises(NotDone, match="cannot be found out: the batch has 2 more runs") as refusal:
        await valyu.resume()
    assert "--repeat (they are charged twice if they were)" in str(refusal.value)
    await valyu.resume(repeat=True)
    assert valyu.sending.made() == [TASKS + 2]


async def test_absence_counts_once_no_call_is_under_way(
    store: Store, sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed command's call may still be carried out: here while the second one waits."""
    sleep = asyncio.sleep

    async def pass_quickly(seconds: float) -> None:
        await sleep(0 if seconds > 60 else seconds)

    monkeypatch.setattr(asyncio, "sleep", pass_quickly)
    patient = Commands(store, ValyuSending(sender), settle_seconds=3600.0)
    sender.add_fault(ADD, kind="reset")
    with pytest.raises(NotDone):
        await patient.create(1)
    (batch,) = sender.state()["batches"]
    listed = list[int]()

    async def late(request: httpx.Request) -> httpx.Response:
        if not listed and request.method == "GET":
            listed.append(1)
            answer = {"batch_id": batch["batch_id"], "status": "open", "counts": {"total": 0}}
            working.more_tasks(sender, batch["batch_id"], ["q0"])
            return httpx.Response(200, json=answer)
        async with httpx.AsyncClient(trust_env=False) as wire:
            return await wire.send(request)

    await patient.resume(client=answering(late))
    assert patient.said[-1].startswith("The last call may still be under way: looking again")
    assert patient.sending.made() == [1]


async def test_second_command_goes_on_alone(
    store: Store, valyu: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first was believed dead, and wakes up after another one has gone on."""
    calling = store.submissions.calling

    def overtaken(known: Submission, call: Any) -> Submission:
        monkeypatch.setattr(store.submissions, "calling", calling)
        calling(store.submissions.find(known.id), call)
        return calling(known, call)

    monkeypatch.setattr(store.submissions, "calling", overtaken)
    with pytest.raises(SubmissionTaken, match="Another command goes on with submission sub_"):
        await valyu.create()
    assert valyu.sending.made() == []
    await valyu.resume()
    assert valyu.sending.made() == [TASKS]


async def test_stopped_command_says_how_to_go_on(
    store: Store, sender: SandboxServer, valyu: Commands
) -> None:
    sender.add_fault(ADD, kind="slow", seconds=60.0)
    creating = asyncio.create_task(valyu.create())
    await until(lambda: valyu.sending.made() == [2])
    creating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creating
    (known,) = store.submissions.list_all()
    assert valyu.said == [
        f"It is not finished. Go on with: resultsink batch create --resume {known.id}."
    ]


def runs(*queries: str, **ids: str) -> list[FetchedRun]:
    """Listed runs with these questions, then with these ids of the user."""
    rows = [{"query": query} for query in queries]
    rows += [{"query": query, "task_id": task_id} for task_id, query in ids.items()]
    return [
        FetchedRun(f"r{n}", "queued", "queued", {}, task_id=row.get("task_id"), input=row)
        for n, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    ("listed", "growth", "refused"),
    [
        (runs("a", "a", a="x"), 3, []),
        (runs("a", a="x"), 2, [1]),  # which of two equal ones does not matter
        (runs("a", "a"), 2, [2]),
        (runs("a"), 3, []),  # the listing lags behind the count
    ],
)
def test_runs_are_matched_with_tasks(
    listed: list[FetchedRun], growth: int, refused: list[int]
) -> None:
    tasks = [Valyu().new_task(row) for row in ({"query": "a"}, {"query": "a"}, {"query": "x"})]
    tasks[2] = Valyu().new_task({"query": "x", "id": "a"})
    outcome = decide(tasks, growth, matched(Valyu(), tasks, listed))
    assert outcome.unmatched == refused
    assert len(outcome.runs) == len(listed)
