"""Handlers: each kind of job has one, and a job of an unknown kind is not lost."""

import pytest

from receiver.sender_api.calls import Calls
from receiver.work import handlers
from receiver.work.handlers import Handlers
from storage import Lease, Store
from tests.receiver.conftest import until
from tests.receiver.working import (
    a_run,
    a_source,
    announce,
    answering,
    attempts,
    job,
    make_due,
    sql,
    tried_in_vain,
    work_off,
    working,
)


class Greeter:
    """A handler of a kind of its own."""

    def __init__(self, store: Store, calls: Calls) -> None:
        del store, calls

    async def attempt(self, lease: Lease) -> str:
        return f"greeted {lease.subject}"

    async def salvage(self, lease: Lease, error: Exception) -> str | None:
        raise NotImplementedError


async def test_job_goes_to_the_handler_of_its_kind(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(handlers.HANDLERS, "fetch", Greeter)
    announce(store, "t1", kind="task")
    await work_off(store, a_source(), client=answering(a_run))
    (attempt,) = sql(store, "SELECT outcome, detail FROM attempts")
    assert attempt == {"outcome": "done", "detail": "greeted t1"}


async def test_job_of_unknown_kind_counts_as_failure(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(store, "t1", kind="task")
    with monkeypatch.context() as older_version:
        older_version.delitem(handlers.HANDLERS, "fetch")
        async with working(store, a_source(), client=answering(a_run)):
            await until(lambda: attempts(store))
    attempt, *_ = sql(store, "SELECT outcome, detail FROM attempts")  # retries may have followed
    assert attempt["outcome"] == "failed"
    assert attempt["detail"] == "this version of resultsink cannot do jobs of the kind 'fetch'"
    assert (job(store)["status"], job(store)["failures"] > 0) == ("pending", True)
    make_due(store)
    await work_off(store, a_source(), client=answering(a_run))  # after an upgrade
    assert (job(store)["status"], attempts(store)[-1]) == ("done", "done")


async def test_job_of_unknown_kind_becomes_dead_letter(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(handlers.HANDLERS, "fetch")
    announce(store, "t1", kind="task")
    tried_in_vain(store, minutes=8 * 24 * 60)
    await work_off(store, a_source(), client=answering(a_run))
    (dead,) = store.jobs.list_dead()
    assert dead["reason"].startswith("this version of resultsink cannot do jobs of the kind")
    assert attempts(store) == ["dead"]


async def test_fetches_and_checks_have_a_handler(store: Store) -> None:
    async with answering(a_run) as wire:
        known = Handlers(store, Calls(a_source(), wire))
        assert {type(known.of(kind)).__name__ for kind in ("fetch", "check")} == {"Fetch"}
