"""resultsink batch wait beside a sender without webhooks: why it asks, and several at once."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from receiver.sandbox import SandboxServer
from receiver.submissions import waiting
from storage import Store, UnverifiedDelivery
from tests.receiver import working
from tests.receiver.cli.batch.test_batch import create
from tests.receiver.cli.conftest import Run
from tests.receiver.working import known, sql

# No SQL is at stake: the verbs of the store are tested on both databases in tests/storage.
pytestmark = pytest.mark.one_database

running_sender, sender = working.running_sender, working.sender


@pytest.fixture(autouse=True)
def reachable(
    configured: Callable[..., None], sender: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sandbox is the sender; no worker is there, and nobody waits long for one."""
    configured(sources__valyu__base_url=sender.api_url)
    monkeypatch.setattr("receiver.work.waited_checks.TAKEN_SECONDS", 0.0)
    defaults = {**(waiting.wait.__kwdefaults__ or {}), "ask_seconds": 0.2}
    monkeypatch.setattr(waiting.wait, "__kwdefaults__", defaults)


def make_old(store: Store) -> None:
    """Let all batches have been created so long ago that their sender is asked at once."""
    sql(store, "UPDATE batches SET created_at = '2026-01-01 00:00:00.000000'")


def test_wait_says_that_no_webhook_came(run: Run, store: Store) -> None:
    batch_id = create(run, "one", "two")
    make_old(store)
    endpoint_id = store.batches.ledger(batch_id).endpoint_id
    ended = run("batch", "wait", batch_id)
    assert (ended.code, ended.out) == (0, "completed: 2 of 2 results stored, 0 failed\n")
    assert ended.err == (
        f"The sender is done with {batch_id}, but no webhook of it has arrived at "
        f"http://127.0.0.1:9/webhooks/valyu/{endpoint_id}, so it was asked. "
        "What has arrived from it: resultsink event list --source valyu\n"
    )


def test_wait_says_that_webhooks_were_refused(run: Run, store: Store) -> None:
    batch_id = create(run, "one")
    make_old(store)
    endpoint_id = store.batches.ledger(batch_id).endpoint_id
    for _ in range(2):
        store.quarantine.keep(UnverifiedDelivery("valyu", endpoint_id, "signature", "", "", b"{}"))
    (newest, _) = store.quarantine.list_newest()
    ended = run("batch", "wait", batch_id)
    assert ended.err == (
        f"2 webhooks of {batch_id} were refused (signature), so the sender is asked instead. "
        f"Why: resultsink rejected show {newest['id']}; "
        f"all of them: resultsink rejected list --endpoint {endpoint_id}\n"
    )
    assert "what to do" in run("rejected", "show", str(newest["id"])).out
    listed = json.loads(run("rejected", "list", "--endpoint", str(endpoint_id), "--json").out)
    assert [each["id"] for each in listed] == [newest["id"], newest["id"] - 1]
    assert run("rejected", "list", "--endpoint", "other").err == "Nothing was refused.\n"


def test_wait_is_silent_once_a_webhook_has_arrived(run: Run, store: Store) -> None:
    batch_id = create(run, "one")
    make_old(store)
    endpoint_id = store.batches.ledger(batch_id).endpoint_id
    store.quarantine.keep(UnverifiedDelivery("valyu", endpoint_id, "signature", "", "", b"{}"))
    working.announce(store, batch_id, endpoint_id=endpoint_id)
    ended = run("batch", "wait", batch_id)
    assert (ended.code, ended.err) == (0, "")


def test_wait_without_a_receiver_asks_itself(run: Run, store: Store) -> None:
    batch_id = create(run, "one")
    make_old(store)
    store.close()
    ended = run("batch", "wait", batch_id)
    assert (ended.code, ended.err.count("\n")) == (0, 1)
    assert ended.err.startswith("No receiver serves this database now: start `resultsink serve`. ")


def test_several_batches_end_together(run: Run, store: Store, sender: SandboxServer) -> None:
    sender.change(hold=False)
    first, second = create(run, "one"), create(run, "two", "three [fail]")
    make_old(store)
    sql(store, "UPDATE batches SET name = 'Grid' WHERE batch_id = ?", first)
    ended = run("batch", "wait", "Grid", second, second, "--fail")
    assert ended.code == 1  # the worst of them
    assert ended.out == (
        "Grid: completed: 1 of 1 results stored, 0 failed\n"
        f"{second}: completed with errors: 2 of 2 results stored, 1 failed\n"
    )
    shown: Any = json.loads(run("batch", "wait", "Grid", second, "--json").out)
    assert [batch["batch_id"] for batch in shown] == [first, second]


def test_batch_is_named_by_name_or_beginning(run: Run, store: Store, sender: SandboxServer) -> None:
    sender.change(hold=True)
    batch_id = create(run, "one")
    sql(store, "UPDATE batches SET name = 'Grid'")
    added = run("batch", "add", "Grid", "--tasks", "tasks.csv")
    assert added.err.endswith(f"1 tasks added; next: resultsink batch wait {batch_id}\n")
    for command in (["show"], ["status"], ["wait", "--timeout", "0"], ["cancel"]):
        ended = run("batch", *command, "Gri")
        assert batch_id in ended.out + ended.err or command[0] == "wait"
    assert run("export", "--batch", "Gri", "--format", "jsonl").code == 0
    assert batch_id in run("verify", "--batch", "Gri", "--json").out
    assert run("event", "replay", "--batch", "Gri", "--dry-run").code == 0
    known(store, "batch_other")
    unclear = run("batch", "wait", "batch_")
    assert (unclear.code, "batch_ may be any of 2 batches: " in unclear.sentence) == (2, True)


def test_failed_look_is_said_once(run: Run, store: Store, sender: SandboxServer) -> None:
    sender.change(hold=False)
    batch_id = create(run, "one")
    make_old(store)
    sender.add_fault("GET /deepresearch/batches/*", status=500, times=5)
    ended = run("batch", "wait", batch_id)
    assert ended.code == 0
    said = f"A look at {batch_id} has failed, and is tried again: the sender answered 500"
    assert ended.err.count(said) == 1
