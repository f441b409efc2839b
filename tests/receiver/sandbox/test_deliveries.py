"""Deliveries and their retries, and Valyu's signature as the official SDK checks it."""

import json
import time
from collections import Counter
from functools import partial

from valyu import Valyu

from receiver.sandbox import ManualClock, SandboxServer
from receiver.sandbox.valyu.signing import sign
from tests.processes import until
from tests.receiver.sandbox.conftest import Inbox, a_batch, genuine, log


def test_signature_matches_the_contract_s_example() -> None:
    key = "5f1c0e9ab7d34826e1f07c9b2a6d8e43905b7fd1c8243ea6b09f5d7e21c4386a"
    body = (
        b'{"batch_id":"batch_7d1f6f0e-3c1a-4c5e-9b2e-0a4f5d8c9e21","mode":"fast",'
        b'"name":"Grid storage watch","output_formats":["markdown"],'
        b'"search_params":{"search_type":"all"},"status":"completed_with_errors",'
        b'"counts":{"total":2,"queued":0,"running":0,"completed":1,"failed":1,"cancelled":0},'
        b'"cost":0.15625,"webhook_url":"https://receiver.example.test/hooks/valyu/r_01J8Z4",'
        b'"created_at":"2026-10-05T09:00:00.000Z","metadata":{"team":"energy"},'
        b'"completed_at":"2026-10-05T09:06:12.480Z"}'
    )
    expected = "sha256=2ae954e397e0df0d6cbed263acd68d47f76a11df52929d13a54025786952d57a"
    assert sign(key, "1791191172", body) == expected


def test_retry_has_same_bytes_and_new_signature(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    inbox.answers = [500, 404, 302]
    sandbox.change(timestamp_unit="ms")
    batch = a_batch(sdk, webhook_url=inbox.url)
    tries = inbox.expect(4)
    assert len({each.body for each in tries}) == 1
    assert len({each.signature for each in tries}) == 4
    assert all(genuine(each, batch.webhook_secret) for each in tries)
    assert [entry["status"] for entry in log(sandbox)] == [500, 404, 302, 200]


def test_tries_can_repeat_the_first_signature(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    inbox.answers = [500, 500]
    sandbox.change(resign=False, timestamp_unit="ms")
    a_batch(sdk, webhook_url=inbox.url)
    assert len({each.signature for each in inbox.expect(3)}) == 1


def test_weather_drops_doubles_and_delays_shares(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox, clock: ManualClock
) -> None:
    sandbox.change(task_webhooks=True, dropped=0.3, doubled=0.3, late=0.1, late_by=(60, 70))
    a_batch(sdk, *map(str, range(99)), webhook_url=inbox.url)
    until(lambda: 0 < sandbox.state()["pending_deliveries"] < 25)  # those that are late
    in_time = {each.body for each in inbox.received}
    clock.advance(70)
    sent = Counter(each.body for each in inbox.expect(len(log(sandbox))))
    assert 50 < len(sent) < 90, "of 100"
    assert 15 < list(sent.values()).count(2) < 45
    assert 0 < len(sent) - len(in_time) < 25
    assert set(sent.values()) == {1, 2}


def test_missigned_webhooks_have_a_wrong_signature(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(missigned=True)
    batch = a_batch(sdk, webhook_url=inbox.url)
    (got,) = inbox.expect(1)
    assert not genuine(got, batch.webhook_secret)


def test_delivery_is_given_up_eventually(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    inbox.answers = [503] * 9
    sandbox.change(tries=3)
    a_batch(sdk, webhook_url=inbox.url)
    assert [entry["attempt"] for entry in log(sandbox)] == [1, 2, 3]


def test_a_client_error_can_be_final(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    inbox.answers = [404] * 9
    sandbox.change(retry_client_errors=False)
    a_batch(sdk, webhook_url=inbox.url)
    assert len(log(sandbox)) == 1


def test_slow_receiver_times_out(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    inbox.answering.clear()
    sandbox.change(delivery_timeout=0.05, tries=1)
    a_batch(sdk, webhook_url=inbox.url)
    [entry] = log(sandbox)
    inbox.answering.set()
    assert entry["status"] is None
    assert entry["error"].endswith("Timeout")


def test_deliveries_can_be_multiplied(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(copies=3)
    batch = a_batch(sdk, webhook_url=inbox.url)
    assert len(log(sandbox)) == 3
    assert all(genuine(each, batch.webhook_secret) for each in inbox.received)


def test_forgeries_accompany_the_genuine_one(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(forgeries=3)
    batch = a_batch(sdk, webhook_url=inbox.url)
    forged = {entry["forgery"] for entry in log(sandbox)}
    assert forged == {None, "wrong_key", "tampered", "unsigned"}
    assert sum(genuine(each, batch.webhook_secret) for each in inbox.received) == 1


def test_forgeries_are_not_tried_again(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    inbox.answers = [401] * 9
    sandbox.change(forgeries=1, tries=2)
    a_batch(sdk, webhook_url=inbox.url)
    assert sorted(str(entry["forgery"]) for entry in log(sandbox)) == ["None", "None", "wrong_key"]


def is_next(clock: ManualClock, wait: float) -> bool:
    return clock.next_call() == wait


def test_waits_before_retries_double(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox, clock: ManualClock
) -> None:
    inbox.answers = [500] * 9
    sandbox.change(first_retry_wait=2, speed=2, tries=4)
    a_batch(sdk, webhook_url=inbox.url)
    for wait in (1, 2, 4):
        until(partial(is_next, clock, wait))
        clock.advance(wait)
    assert [entry["attempt"] for entry in log(sandbox)] == [1, 2, 3, 4]


def test_deliveries_can_be_kept_back(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox, clock: ManualClock
) -> None:
    sandbox.change(delivery_delay=[30, 30])
    a_batch(sdk, webhook_url=inbox.url)
    until(lambda: clock.next_call() == 30)
    assert (sandbox.state()["pending_deliveries"], inbox.received) == (1, [])
    clock.advance(30)
    inbox.expect(1)


def test_delays_depend_on_the_order_of_sending(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox, clock: ManualClock
) -> None:
    def delays() -> list[float | None]:
        sandbox.reset()
        sandbox.change(delivery_delay=[1, 9], reorder=2)
        for _ in range(2):
            a_batch(sdk, webhook_url=inbox.url)
        found: list[float | None] = []
        for count in (1, 2):
            found.append(until(clock.next_call))
            clock.advance(9)
            inbox.expect(count)
        log(sandbox)
        inbox.received.clear()
        return found

    first = delays()
    assert first == delays()
    assert first[0] != first[1]


def test_deliveries_can_come_last_first(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(reorder=3, reorder_wait=30)
    ids = [a_batch(sdk, webhook_url=inbox.url).batch_id for _ in range(3)]
    came = [json.loads(delivery.body)["batch_id"] for delivery in inbox.expect(3)]
    assert came == ids[::-1]


def test_gathered_deliveries_are_sent_after_a_wait(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox, clock: ManualClock
) -> None:
    sandbox.change(reorder=3, reorder_wait=5)
    a_batch(sdk, webhook_url=inbox.url)
    assert inbox.received == []
    clock.advance(5)
    inbox.expect(1)


def test_other_machines_are_not_called(sdk: Valyu, sandbox: SandboxServer) -> None:
    batch = sdk.batch.create(webhook_url="https://receiver.example/hook")
    sandbox.deliver(batch.batch_id)
    [entry] = log(sandbox)
    assert entry["error"].startswith("not sent: receiver.example is not this machine")


def test_clock_may_be_milliseconds_or_wrong(
    sdk: Valyu, sandbox: SandboxServer, inbox: Inbox
) -> None:
    sandbox.change(timestamp_unit="ms", clock_skew=-86_400)
    a_batch(sdk, webhook_url=inbox.url)
    [delivery] = inbox.expect(1)
    assert abs(int(delivery.timestamp) / 1000 + 86_400 - time.time()) < 60


def test_the_headers_can_have_other_names(sdk: Valyu, sandbox: SandboxServer, inbox: Inbox) -> None:
    sandbox.change(signature_header="X-Valyu-Signature")
    a_batch(sdk, webhook_url=inbox.url)
    assert inbox.expect(1)[0].signature is None
