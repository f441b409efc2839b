"""Taking in: what is delivered, again and again, forged, for somebody else, or too early."""

import codecs
from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox import SandboxServer
from receiver.sources import PROVIDERS
from tests.conformance.cases import CASES, Case
from tests.conformance.sink import Sink
from tests.processes import until
from tests.receiver.cli.conftest import Run

pytestmark = pytest.mark.one_database
"""Each sender's deliveries are at stake; tests/receiver/intake has them stored on both."""

BOUND = [case for case in CASES.values() if case.is_bound]


def sent(sandbox: SandboxServer, count: int | None = None) -> list[dict[str, Any]]:
    """The log of deliveries once nothing more is under way, and there are so many."""

    def done() -> list[dict[str, Any]] | None:
        state = sandbox.state()
        found: list[dict[str, Any]] = state["deliveries"]
        return found if state["pending_deliveries"] == 0 and count in (None, len(found)) else None

    found: list[dict[str, Any]] = until(done)
    return found


def path_of(sink: Sink, case: Case, resource: str) -> str:
    """Return the path of a resource's deliveries: of its own endpoint, or of the account."""
    endpoint = endpoint_of(sink, case, resource)
    return f"/webhooks/{case.name}" + (f"/{endpoint}" if endpoint else "")


def endpoint_of(sink: Sink, case: Case, resource: str) -> str | None:
    """The endpoint that expects a resource; None where there is the account's alone."""
    found = sink.store.endpoints.find_by_resource(case.name, resource)
    assert (found is not None) == case.is_bound
    return found.id if found else None


def test_announced_runs_are_fetched_and_stored(
    case: Case, sandbox: SandboxServer, sink: Sink
) -> None:
    sandbox.change(hold=True)
    batch_id = sink.create(case, 3)
    ledger = sink.store.batches.ledger(batch_id)
    assert (ledger.state, ledger.expected, ledger.stored) == ("open", 3, 0)
    missing = sink.store.batches.story(ledger.batch_id).missing_runs
    assert [each["run_id"] for each in missing] == sink.runs(batch_id)
    sandbox.change(hold=False)
    ledger = sink.complete(batch_id)
    assert sink.store.batches.story(ledger.batch_id).missing_runs == []
    assert (ledger.expected, ledger.announced, ledger.stored, ledger.failed) == (3, 3, 3, 0)
    deliveries = sent(sandbox, case.deliveries(3))
    assert {delivery["status"] for delivery in deliveries} == {200}
    assert [event["deliveries"] for event in sink.events()] == [1] * len(deliveries)
    assert sink.warned == []


def test_copies_are_one_event(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    sandbox.change(hold=True, copies=3, reorder=4, reorder_wait=0.1)
    batch_id = sink.create(case, 3)
    sandbox.change(hold=False)
    sink.complete(batch_id)
    sent(sandbox, 3 * case.deliveries(3))
    sink.worked_off()
    calls, before = sandbox.state()["calls"], sink.snapshot("events", "deliveries", "meta")

    sandbox.change(copies=1)
    sandbox.deliver(batch_id, times=2)
    deliveries = sent(sandbox, 5 * case.deliveries(3))
    assert {delivery["status"] for delivery in deliveries} == {200}
    assert [event["deliveries"] for event in sink.events()] == [5] * case.deliveries(3)
    assert sandbox.state()["calls"] == calls
    assert sink.snapshot("events", "deliveries", "meta") == before
    assert [result["version"] for result in sink.results(batch_id)] == [1, 1, 1]


def test_byte_order_mark_hides_nothing(case: Case) -> None:
    provider, body = PROVIDERS[case.name](), case.body("something_1")
    announced = provider.identify(body)
    assert announced is not None
    assert provider.identify(codecs.BOM_UTF8 + body) == announced


def test_forgery_is_quarantined_only(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    sandbox.change(hold=True)
    batch_id = sink.create(case, 1)
    resource = {"batch": batch_id, "run": sink.runs(batch_id)[0]}[case.announced]
    path, body = path_of(sink, case, resource), case.body(resource)
    before = sink.snapshot("quarantine", "meta")

    forged = [case.headers(case.secret("nobody's"), body), {}, {"authorization": "Basic x"}]
    answers = [sink.post(path, headers, body) for headers in forged]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    assert len({answer.content for answer in answers}) == 1
    until(lambda: len(sink.store.quarantine.list_newest()) == 3)
    assert sink.snapshot("quarantine", "meta") == before
    sandbox.change(hold=False)
    assert sink.complete(batch_id).stored == 1


def test_secret_cannot_speak_for_another_s(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    """Where one secret is the account's it may speak of all, but the API says what is true."""
    sandbox.change(hold=True)
    mine, other = sink.create(case, 1), sink.create(case, 1)
    ids = {"batch": (mine, other), "run": (sink.runs(mine)[0], sink.runs(other)[0])}
    my_id, other_id = ids[case.announced]
    changes: Any = {case.id_field: other_id, "status": "completed"}
    sandbox.deliver(my_id, **changes)
    (delivery,) = sent(sandbox, 1)
    assert delivery["status"] == 200
    (event,) = sink.events()
    assert other_id not in event["key"]
    dead = sink.store.jobs.list_dead()
    assert len(dead) == case.is_bound
    assert all(other_id in each["reason"] for each in dead)
    sandbox.change(hold=False)
    for batch_id in (mine, other):
        assert sink.complete(batch_id).stored == 1
    assert [result["version"] for result in sink.results(other)] == [1]
    genuine = [each for each in sent(sandbox, 3)[1:] if each["status"] == 200]
    assert (len(genuine), len(sink.events())) == (2, 3)


def test_a_rotated_secret_needs_no_restart(
    case: Case, sandbox: SandboxServer, sink: Sink, run: Run, tmp_path: Path
) -> None:
    sandbox.change(hold=True)
    batch_id = sink.create(case, 1)
    resource = {"batch": batch_id, "run": sink.runs(batch_id)[0]}[case.announced]
    old, new, other = (case.secret(name) for name in ("old", "new", "other"))
    endpoint = endpoint_of(sink, case, resource)
    path, body = path_of(sink, case, resource), case.body(resource)

    def rotate(*secrets: str, keep: str) -> None:
        """At the endpoint by a command; at the account by writing its file anew."""
        if endpoint is not None:
            assert run("endpoint", "rotate", endpoint, "--keep", keep, stdin=secrets[0]).code == 0
        else:
            (tmp_path / "secrets").write_text("\n".join(secrets))

    def status(secret: str) -> int:
        return sink.post(path, case.headers(secret, body), body).status_code

    rotate(old, keep="0")
    until(lambda: status(old) == 200)
    assert status(new) == 401
    rotate(new, old, keep="1d")
    until(lambda: status(new) == 200)
    assert status(old) == 200
    rotate(other, keep="0")
    until(lambda: status(old) == 401)
    assert (status(new), status(other)) == (401, 200)


@pytest.mark.parametrize("case", BOUND, ids=lambda case: case.name)
def test_webhook_before_secret_is_retried(case: Case, sandbox: SandboxServer, sink: Sink) -> None:
    endpoint = sink.store.endpoints.add(case.name, case.resource)
    secret, body = case.secret("late"), case.body("something_1")
    path = f"/webhooks/{case.name}/{endpoint}"
    early = sink.post(path, case.headers(secret, body), body)
    assert (early.status_code, "retry-after" in early.headers) == (503, True)
    assert sink.events() == []
    sink.store.endpoints.set_secret(endpoint, secret, resource="something_1")
    until(lambda: sink.post(path, case.headers(secret, body), body).status_code == 200)
    assert len(sink.events()) == 1


def test_webhooks_before_creation_answer_are_kept(
    case: Case, sandbox: SandboxServer, sink: Sink
) -> None:
    sandbox.add_fault(case.adds, kind="slow", seconds=0.7)
    batch_id = sink.create(case, 3)
    early = [delivery for delivery in sandbox.state()["deliveries"] if delivery["status"] == 200]
    assert len(early) == case.deliveries(3)
    assert sink.complete(batch_id).stored == 3
    given = [result["input"] for result in sink.results(batch_id)]
    expected = [task.input for task in case.tasks(3)]
    # each run that calls back on its own is fetched at once, and the quickest is known first
    assert sorted(given, key=str) == sorted(expected, key=str)
    assert given == expected or case.name == "parallel-v0"
    assert sink.store.jobs.list_dead() == []
