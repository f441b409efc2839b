"""The one writing thread: urgent first, nobody starved, nobody left waiting."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import Select, insert, select, update
from sqlmodel import col

from storage import CannotStore
from storage.database import Database
from storage.database.writer import Writer
from storage.models import Meta
from tests.processes import DEADLINE


class Outcome:
    """A `done` that keeps its outcome, and can be waited for."""

    def __init__(self) -> None:
        self._event = Event()
        self.value: Any = None
        self.error: BaseException | None = None

    def __call__(self, value: Any, error: BaseException | None) -> None:
        self.value, self.error = value, error
        self._event.set()

    def wait(self, seconds: float = DEADLINE) -> "Outcome":
        assert self._event.wait(seconds), "it was never called"
        return self


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    """A writer with a thread of its own, on a database of either kind."""
    writer = Writer(database.write)
    yield writer
    writer.close()


class Busy:
    """Keeps the writer's thread in one piece of work until `go`, while others queue up."""

    def __init__(self, writer: Writer, then: Callable[[], None] = lambda: None) -> None:
        self._may_go = Event()
        self._then = then
        started = Event()

        def work(_: object) -> None:
            started.set()
            assert self._may_go.wait(DEADLINE)
            self._then()

        self.outcome = Outcome()
        writer.submit(work, self.outcome)
        assert started.wait(DEADLINE)

    def go(self) -> None:
        self._may_go.set()


def test_urgent_work_first_without_starving_others(writer: Writer) -> None:
    busy, order, last = Busy(writer), list[str](), Outcome()

    def note(name: str, _: object) -> None:
        order.append(name)

    for number in range(3):
        writer.submit(partial(note, f"other {number}"), Outcome())
    for number in range(5):
        outcome = last if number == 4 else Outcome()
        writer.submit(partial(note, f"urgent {number}"), outcome, urgent=True)
    busy.go()
    last.wait()
    assert order == [
        *("urgent 0", "other 0", "urgent 1", "other 1", "urgent 2", "other 2"),
        *("urgent 3", "urgent 4"),
    ]


def test_result_of_the_work_is_returned(writer: Writer) -> None:
    assert writer.call(lambda _: 42) == 42
    outcome = Outcome()
    writer.submit(lambda _: 42, outcome, urgent=True)
    assert (outcome.wait().value, outcome.error) == (42, None)


def test_error_reaches_caller_and_writer_continues(writer: Writer) -> None:
    with pytest.raises(ZeroDivisionError):
        writer.call(lambda _: 1 / 0)
    assert writer.call(lambda _: "next") == "next"


def value_of(key: str) -> Select[str]:
    return select(col(Meta.value)).where(col(Meta.key) == key)


def test_what_failed_was_taken_back(database: Database) -> None:
    def work(connection: Any) -> None:
        connection.execute(insert(Meta).values(key="half", value="done"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.write(work)
    with database.read() as connection:
        found = connection.execute(value_of("half")).all()
    assert found == []


def test_failing_callback_does_not_stop_the_writer(
    writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_value: object, _error: object) -> None:
        raise RuntimeError("the loop is closed")

    writer.submit(lambda _: None, gone)
    assert writer.call(lambda _: "next") == "next"
    assert "could not be reported" in caplog.text


def test_done_is_called_after_the_commit(writer: Writer, database: Database) -> None:
    seen: list[Any] = []
    said = Event()

    def done(_value: object, _error: object) -> None:
        with database.read() as connection:
            seen.extend(connection.execute(value_of("k")))
        said.set()

    writer.submit(lambda c: c.execute(insert(Meta).values(key="k", value="v")), done)
    assert said.wait(DEADLINE)
    assert seen == [("v",)]


def test_many_threads_write_through_one(writer: Writer, database: Database) -> None:
    def add(connection: Any) -> None:
        value = connection.execute(value_of("n")).scalar()
        connection.execute(
            update(Meta).where(col(Meta.key) == "n").values(value=str(int(value) + 1))
        )

    database.write(lambda c: c.execute(insert(Meta).values(key="n", value="0")))
    threads = [Thread(target=writer.call, args=[add]) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as connection:
        found = connection.execute(value_of("n")).scalar()
    assert found == "20"


# --- the end ------------------------------------------------------------------------------------


def test_queued_work_finishes_before_close(writer: Writer) -> None:
    busy, waiting = Busy(writer), [Outcome(), Outcome()]
    writer.submit(lambda _: "other", waiting[0])
    writer.submit(lambda _: "urgent", waiting[1], urgent=True)
    closing = Thread(target=writer.close)
    closing.start()
    busy.go()
    closing.join(DEADLINE)
    assert [outcome.wait().value for outcome in waiting] == ["other", "urgent"]


def test_nothing_is_taken_after_the_end(writer: Writer) -> None:
    writer.close()
    with pytest.raises(CannotStore, match="ended"):
        writer.call(lambda _: None)


class Stop(BaseException):
    """An error that no piece of work should raise, and that ends a thread."""


@pytest.fixture
def ended(writer: Writer) -> Iterator[tuple[Writer, Outcome, Outcome]]:
    """A writer that dies of a piece of work, while another waits."""

    def die() -> None:
        raise Stop

    with quiet_threads():
        busy, waiting = Busy(writer, die), Outcome()
        writer.submit(lambda _: "never", waiting)
        busy.go()
        yield writer, busy.outcome, waiting


@contextmanager
def quiet_threads() -> Iterator[None]:
    """The death of the writer is what is tested here, so that nobody need report it."""
    import threading

    before, threading.excepthook = threading.excepthook, lambda _: None
    try:
        yield
    finally:
        threading.excepthook = before


def test_dead_writer_fails_waiting_work_at_once(ended: tuple[Writer, Outcome, Outcome]) -> None:
    assert isinstance(ended[2].wait().error, CannotStore)


def test_a_dead_writer_takes_nothing_more(ended: tuple[Writer, Outcome, Outcome]) -> None:
    ended[2].wait()
    with pytest.raises(CannotStore):
        ended[0].call(lambda _: None)


def test_dead_writer_fails_the_work_it_ran(ended: tuple[Writer, Outcome, Outcome]) -> None:
    ended[2].wait()
    assert ended[1].wait().error is not None


def test_one_departed_waiter_holds_up_nobody() -> None:
    def broken(_: object) -> None:
        started.wait(DEADLINE)
        raise Stop

    def gone(_value: object, _error: object) -> None:
        raise RuntimeError("the loop is closed")

    started, waiting = Event(), Outcome()
    with quiet_threads():
        writer = Writer(broken)
        writer.submit(lambda _: None, gone)
        writer.submit(lambda _: None, gone)
        writer.submit(lambda _: None, waiting)
        started.set()
        assert isinstance(waiting.wait().error, CannotStore)
