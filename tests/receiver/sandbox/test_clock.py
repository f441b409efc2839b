"""Planned calls: their order and their times do not depend on how late they run."""

import asyncio
import time
from functools import partial

from receiver.sandbox import ManualClock, SandboxClock, Switches
from receiver.sandbox.parallel_v0.records import V0Run
from receiver.sandbox.parallel_v0.requests import CreateV0Batch, CreateV0Task
from receiver.sandbox.parallel_v0.state import V0Runs
from receiver.sandbox.switches import Panel


class Recorder:
    """Plans calls that note their names and times; `first` plans another one."""

    def __init__(self, clock: SandboxClock) -> None:
        self.clock = clock
        self.noted: list[tuple[str, float]] = []
        with clock.stopped():
            self.begun = clock.seconds()
            clock.call_after(3, partial(self.note, "third"))
            clock.call_after(1, self.first)
            clock.call_after(3, partial(self.note, "fourth"))

    def first(self) -> None:
        self.note("first")
        self.clock.call_after(1, partial(self.note, "second"))

    def note(self, name: str) -> None:
        self.noted.append((name, round(self.clock.seconds() - self.begun, 6)))


ORDERED = [("first", 1), ("second", 2), ("third", 3), ("fourth", 3)]


class LateClock(SandboxClock):
    """The machine's clock, on a machine that can be busy for some seconds."""

    busy = 0.0

    def _steady(self) -> float:
        return super()._steady() + self.busy


def test_late_calls_keep_their_order_and_times() -> None:
    clock = LateClock()
    recorder = Recorder(clock)
    clock.busy = 60
    clock.run_due()
    assert recorder.noted == ORDERED


def test_a_manual_clock_makes_calls_only_when_advanced() -> None:
    clock = ManualClock()
    recorder = Recorder(clock)
    clock.advance(0.5)
    assert (recorder.noted, clock.next_call()) == ([], 0.5)
    clock.advance(60)
    assert (recorder.noted, clock.next_call()) == (ORDERED, None)


def test_a_cancelled_call_is_not_made() -> None:
    clock, called = ManualClock(), list[str]()
    clock.call_after(1, lambda: called.append("cancelled")).cancel()
    clock.call_after(2, lambda: called.append("made"))
    assert clock.next_call() == 2
    clock.advance(2)
    assert called == ["made"]


def test_dates_follow_the_clock_until_it_is_restarted() -> None:
    clock = ManualClock()
    clock.advance(86_400)
    assert clock.time() - time.time() > 86_000
    clock.restart()
    assert clock.time() - time.time() < 86_000


def test_an_attached_clock_makes_its_calls_by_itself() -> None:
    async def waited() -> tuple[bool, bool]:
        clock, event = SandboxClock(), asyncio.Event()
        clock.attach(asyncio.get_running_loop())
        timed_out = await clock.wait_for(event, until=clock.seconds() + 0.01)
        clock.call_after(0.01, event.set)
        return timed_out, await clock.wait_for(event, until=clock.seconds() + 600)

    assert asyncio.run(waited()) == (False, True)


def test_a_busy_machine_leaves_the_order_of_ends() -> None:
    def ends(*, busy: float) -> list[str]:
        clock, ended = LateClock(), list[V0Run]()
        runs = V0Runs(Panel(Switches(duration=(1, 9)), clock), ended.append)
        task = runs.create_task(CreateV0Task(prompt="${n}", processor="neon"))
        for first in (0, 20):
            wanted = [{"arguments": {"n": first + n}} for n in range(20)]
            request = CreateV0Batch.model_validate({"task_run_requests": wanted})
            runs.start(runs.create_batch(task, request).runs)
            clock.busy += 0.5
        while len(ended) < 40:
            clock.busy += busy
            clock.run_due()
        return [run.text for run in ended]

    assert ends(busy=0.01) == ends(busy=1) == ends(busy=60)
