"""Parallel's webhooks, and their signatures by the library of Standard Webhooks."""

import json
from typing import Any

import pytest
from parallel import Parallel, UnprocessableEntityError

from receiver.sandbox import ManualClock, SandboxError, SandboxServer, Switches, parse
from receiver.sandbox.parallel.signing import ParallelSigning, entry, keys
from tests.receiver.sandbox.conftest import Inbox, log
from tests.receiver.sandbox.parallel.calls import (
    OTHER_SECRET,
    SECRET,
    a_group,
    genuine,
    slowly,
    webhook,
)

LEGACY = SECRET.encode()


def a_run(parallel: Parallel, inbox: Inbox, text: str = "q") -> str:
    made = parallel.task_run.create(input=text, processor="base", webhook=webhook(inbox))
    return made.run_id


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("new", "v1,49LfufIsrw8hm265Dqt+bzcchMiR+zXEHD4ZwtzoSc4="),
        ("legacy", "v1,Dss7CBBIlrtrNSKuGbtlV9+o2xsMggmG2qUebGrghsk="),
    ],
)
def test_signature_matches_the_contract_s_example(rule: str, expected: str) -> None:
    body = (
        b'{"timestamp":"2026-03-02T10:03:44.951000Z","type":"task_run.status","data":'
        b'{"run_id":"trun_5f0c1d2e3b4a49788a9bacbdcedfe0f1",'
        b'"interaction_id":"trun_5f0c1d2e3b4a49788a9bacbdcedfe0f1","status":"completed",'
        b'"is_active":false,"warnings":null,"error":null,"processor":"core",'
        b'"metadata":{"row":"1"},'
        b'"taskgroup_id":"tgrp_0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071",'
        b'"created_at":"2026-03-02T10:00:01.120000Z",'
        b'"modified_at":"2026-03-02T10:03:44.902113Z"}}'
    )
    [key] = keys(SECRET, rule)
    assert entry(key, "whevent_9d2f4b6c8e0a1c3e5f7a9b0c", "1772445825", body) == expected


@pytest.mark.parametrize(
    ("rule", "by_new", "by_legacy"),
    [("new", True, False), ("legacy", False, True), ("both", True, True)],
)
def test_keys_are_made_by_the_ordered_rule(
    parallel: Parallel,
    sandbox: SandboxServer,
    inbox: Inbox,
    rule: str,
    by_new: bool,
    by_legacy: bool,
) -> None:
    sandbox.change(parallel_key=rule)
    a_run(parallel, inbox)
    [delivery] = inbox.expect(1)
    assert genuine(delivery, SECRET) is by_new
    assert genuine(delivery, LEGACY) is by_legacy
    assert not genuine(delivery, OTHER_SECRET)
    assert not genuine(delivery, OTHER_SECRET.encode())


def test_either_secret_signs_during_rotation(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(parallel_secrets=[SECRET, OTHER_SECRET], parallel_key="both")
    a_run(parallel, inbox)
    [delivery] = inbox.expect(1)
    assert len(delivery.headers["webhook-signature"].split()) == 4
    assert genuine(delivery, SECRET)
    assert genuine(delivery, OTHER_SECRET)


@pytest.mark.parametrize("wrong", [[], ["secret"], ["whsec_é"], ["whsec_abc"], ["c2VjcmV0"]])
def test_impossible_secret_is_refused(wrong: list[str]) -> None:
    with pytest.raises(SandboxError):
        parse(Switches, {"parallel_secrets": wrong})


@pytest.mark.parametrize(("text", "status"), [("q", "completed"), ("q [fail]", "failed")])
def test_a_run_is_announced_without_its_output(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox, text: str, status: str
) -> None:
    run = a_run(parallel, inbox, text)
    [delivery] = inbox.expect(1)
    body = json.loads(delivery.body)
    shown = json.loads(parallel.task_run.with_raw_response.retrieve(run).text())
    assert (body["type"], body["data"]) == ("task_run.status", shown)
    assert (shown["status"], body["timestamp"][-1]) == (status, "Z")
    assert [entry["kind"] for entry in log(sandbox)] == ["task_run"]


def test_runs_of_a_group_are_announced(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox, clock: ManualClock
) -> None:
    slowly(sandbox)
    group, runs = a_group(parallel, "one", "two", webhook=webhook(inbox))
    clock.advance(3)
    said = [json.loads(each.body)["data"] for each in inbox.expect(2)]
    assert {each["run_id"] for each in said} == set(runs)
    assert {each["taskgroup_id"] for each in said} == {group}
    assert len(log(sandbox)) == 2


@pytest.mark.parametrize(
    ("types", "all_of_none", "announced"),
    [(None, "none", 0), ([], "none", 0), ([], "all", 1), (["monitor.event.detected"], "all", 0)],
)
def test_only_subscribed_event_types_are_announced(
    parallel: Parallel,
    sandbox: SandboxServer,
    inbox: Inbox,
    types: Any,
    all_of_none: str,
    announced: int,
) -> None:
    sandbox.change(parallel_empty_event_types=all_of_none)
    wanted: Any = {"url": inbox.url} | ({} if types is None else {"event_types": types})
    parallel.task_run.create(input="q", processor="base", webhook=wanted)
    assert len(log(sandbox)) == announced


def test_webhook_may_need_beta_header(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    a_run(parallel, inbox)
    sandbox.change(parallel_webhook_beta=True)
    with pytest.raises(UnprocessableEntityError, match="parallel-beta"):
        a_run(parallel, inbox)
    group = parallel.task_group.create().task_group_id
    wanted: Any = [{"input": "q", "processor": "core", "webhook": webhook(inbox)}]
    parallel.task_group.add_runs(group, inputs=wanted, betas=["webhook-2025-08-12"])
    inbox.expect(2)


def test_refused_delivery_keeps_id_and_bytes(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    inbox.answers = [503, 404]
    a_run(parallel, inbox)
    tries = inbox.expect(3)
    assert len({(each.headers["webhook-id"], each.body) for each in tries}) == 1
    assert all(genuine(each, SECRET) for each in tries)
    assert [entry["status"] for entry in log(sandbox)] == [503, 404, 200]


def test_later_attempt_is_signed_anew() -> None:
    signing = ParallelSigning("whevent_1")
    first, second = (
        signing.headers(Switches(), b"{}", at=at) for at in (1772445825.9, 1772445831.2)
    )
    assert first["webhook-id"] == second["webhook-id"]
    stamps = (first["webhook-timestamp"], second["webhook-timestamp"])
    assert stamps == ("1772445825", "1772445831")
    assert first["webhook-signature"] != second["webhook-signature"]


def test_copies_share_the_id_of_their_event(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(copies=2)
    a_run(parallel, inbox)
    a_run(parallel, inbox)
    assert len({each.headers["webhook-id"] for each in inbox.expect(4)}) == 2


def test_forgeries_accompany_the_genuine_one(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(forgeries=3, parallel_key="both")
    a_run(parallel, inbox)
    assert {entry["forgery"] for entry in log(sandbox)} == {
        None,
        "wrong_key",
        "tampered",
        "unsigned",
    }
    assert sum(genuine(each, SECRET) for each in inbox.received) == 1
    assert sum(genuine(each, LEGACY) for each in inbox.received) == 1


def test_wrong_clock_makes_deliveries_stale(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(clock_skew=-400)
    a_run(parallel, inbox)
    assert not genuine(inbox.expect(1)[0], SECRET)


def test_webhook_can_be_sent_later(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(webhook=False)
    group, runs = a_group(parallel, "one", "two", webhook=webhook(inbox))
    assert log(sandbox) == []
    sandbox.deliver(group)
    sandbox.deliver(runs[0], times=2)
    ids = [each.headers["webhook-id"] for each in inbox.expect(4)]
    assert len(set(ids)) == 2


def test_delivery_may_come_too_early(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    run = a_run(parallel, inbox, "q [stuck]")
    sandbox.deliver(run, status="completed", is_active=False)
    [delivery] = inbox.expect(1)
    assert genuine(delivery, SECRET)
    assert json.loads(delivery.body)["data"]["status"] == "completed"
    assert parallel.task_run.retrieve(run).status == "running"


def test_nothing_sent_without_webhook(parallel: Parallel, sandbox: SandboxServer) -> None:
    group, _ = a_group(parallel, "one")
    with pytest.raises(SandboxError, match="without a webhook"):
        sandbox.deliver(group)


def test_other_bodies_are_sent_by_switch(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    runs = []
    for form in ("outputs", "foreign", "unreadable"):
        sandbox.change(webhook_body=form)
        runs.append(a_run(parallel, inbox))
        inbox.expect(len(runs))
    outputs, foreign, unreadable = inbox.received
    assert json.loads(outputs.body)["data"]["output"]["content"]
    assert json.loads(foreign.body)["data"]["run_id"] not in runs
    assert genuine(foreign, SECRET)
    with pytest.raises(UnicodeDecodeError):
        unreadable.body.decode()


def test_announcements_can_look_like_old_samples(
    parallel: Parallel, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(hold=True)
    a_run(parallel, inbox, "[fail]")
    sandbox.change(parallel_old_runs=True, parallel_details=True)
    sandbox.change(hold=False)
    data = json.loads(inbox.expect(1)[0].body)["data"]
    assert "interaction_id" not in data
    assert data["error"]["details"] is None
