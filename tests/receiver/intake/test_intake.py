"""Verified deliveries and their work: the endpoint names the resource, whatever the body says."""

import asyncio
import hmac
import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.concurrency import run_in_threadpool

from receiver.intake import intake
from receiver.intake.target import (
    ACCEPTED,
    DUPLICATE,
    NOT_FOUND,
    NOT_STORED,
    SECRET_PENDING,
    UNAUTHORIZED,
)
from receiver.signatures.schemes import bearer_token
from receiver.telemetry import logs
from storage import Store
from tests.receiver.conftest import (
    BATCH,
    DEADLINE_SECONDS,
    OTHER_BATCH,
    OTHER_SECRET,
    SECRET,
    SOON,
    TASK,
    Headers,
    Taking,
    add_endpoint,
    batch_body,
    broken,
    events,
    fetches,
    locked,
    signed,
    stuck,
    task_body,
    until,
)

HOUR = 3600.0
THE_BATCH = [("batch", BATCH)]

READABLE = {
    "flat": batch_body(),
    "wrapped": json.dumps({"type": "x", "data": {"batch_id": BATCH, "status": "done"}}).encode(),
    "without a status": json.dumps({"batch_id": BATCH}).encode(),
    "with outputs": batch_body(tasks=[{"deepresearch_id": TASK, "output": "x" * 9000}]),
    "metadata that names another": batch_body(metadata={"batch_id": OTHER_BATCH, "job_id": "x"}),
}
UNREADABLE = {
    "empty": b"",
    "not JSON": b"batch finished",
    "a form": b"batch_id=" + OTHER_BATCH.encode(),
    "a list": b"[" + batch_body(OTHER_BATCH) + b"]",
    "no ids": b'{"hello": "world"}',
    "deep": b'{"batch_id":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "NaN": b'{"batch_id": "%b", "cost": NaN}' % OTHER_BATCH.encode(),
    "huge integer": b'{"batch_id": "%b", "cost": %b}' % (OTHER_BATCH.encode(), b"9" * 5000),
    "two identities": b'{"batch_id":"%b","batch_id":"%b"}' % (BATCH.encode(), OTHER_BATCH.encode()),
    "two wrappers": b'{"data":{"batch_id":"a"},"data":{"batch_id":"%b"}}' % OTHER_BATCH.encode(),
    "an id that is none": b'{"batch_id": 5}',
    "an id with a NUL": b'{"batch_id": "a\\u0000b"}',
    "a lone surrogate": b'{"batch_id": "\\ud800"}',
    "not UTF-8": b'{"batch_id": "\xff\xfe"}',
    "UTF-16": batch_body(OTHER_BATCH).decode().encode("utf-16"),
    "NUL bytes": b"\x00" * 50 + batch_body(OTHER_BATCH),
    "large": b"\xff" * (intake.INLINE_BYTES + 1),
}


async def test_large_body_accepted_while_worker_threads_wait(taking: Taking, store: Store) -> None:
    """They wait for the disk, without a deadline; a sender does not."""
    endpoint, free = add_endpoint(store), threading.Event()
    waiting = [asyncio.create_task(run_in_threadpool(free.wait, 60)) for _ in range(80)]
    await asyncio.sleep(0.1)
    try:
        async with asyncio.timeout(30):
            assert await taking.deliver(endpoint, UNREADABLE["large"]) == ACCEPTED
    finally:
        free.set()
        await asyncio.gather(*waiting)


# Identity.


async def test_any_body_fetches_the_bound_batch(taking: Taking, store: Store) -> None:
    for name, body in (READABLE | UNREADABLE).items():
        outcome = await taking.deliver(add_endpoint(store), body)
        assert outcome in (ACCEPTED, DUPLICATE), name  # those with one key and other bodies
    assert fetches(store) == THE_BATCH * len(READABLE | UNREADABLE)
    kept = [delivery["body"] for event in events(store) for delivery in event["deliveries"]]
    assert sorted(kept) == sorted((READABLE | UNREADABLE).values())
    assert taking.work == len(events(store))


@given(body=st.binary() | st.dictionaries(st.text(), st.text()).map(json.dumps).map(str.encode))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_bytes_fetch_exactly_the_bound_batch(
    taking: Taking, store: Store, body: bytes
) -> None:
    known = len(store.events.list_newest(limit=1000))
    assert await taking.deliver(add_endpoint(store), body) == ACCEPTED
    newest = store.events.show(store.events.list_newest(limit=1)[0]["id"])
    assert len(store.events.list_newest(limit=1000)) == known + 1
    assert [(job["status"], job["subject"]) for job in newest["jobs"]] == [("pending", BATCH)]


async def test_body_naming_another_batch_is_buried(taking: Taking, store: Store) -> None:
    mine, theirs = add_endpoint(store), add_endpoint(store, OTHER_BATCH, secret=OTHER_SECRET)
    assert await taking.deliver(mine, batch_body(OTHER_BATCH)) == ACCEPTED
    assert fetches(store) == []
    (dead,) = store.jobs.list_dead()
    assert OTHER_BATCH in dead["reason"]
    (event,) = events(store)
    assert event["key"].startswith(f"{mine}:")
    assert (event["disposition"], event["deliveries"][0]["body"]) == (
        "unusable",
        batch_body(OTHER_BATCH),
    )
    # and the event of the other endpoint is not shadowed
    assert await taking.deliver(theirs, batch_body(OTHER_BATCH), secret=OTHER_SECRET) == ACCEPTED
    assert fetches(store) == [("batch", OTHER_BATCH)]


@pytest.mark.parametrize(
    "body",
    [
        task_body(batch_id=OTHER_BATCH),
        json.dumps({"job_id": "cj_1", "status": "completed", "batch_id": BATCH}).encode(),
    ],
    ids=["a task of another batch", "a contents job"],
)
async def test_unrelated_body_at_batch_is_buried(taking: Taking, store: Store, body: bytes) -> None:
    assert await taking.deliver(add_endpoint(store), body) == ACCEPTED
    assert (fetches(store), len(store.jobs.list_dead())) == ([], 1)


@pytest.mark.parametrize("more", [{}, {"batch_id": BATCH}])
async def test_task_event_at_batch_endpoint_is_fetched(
    taking: Taking, store: Store, more: dict[str, str]
) -> None:
    mine, theirs = (add_endpoint(store) for _ in range(2))
    for endpoint_id in (mine, theirs):  # neither shadows the other: the API says whose it is
        assert await taking.deliver(endpoint_id, task_body(**more)) == ACCEPTED
    assert fetches(store) == [("task", TASK)] * 2
    assert {job["endpoint_id"] for event in events(store) for job in event["jobs"]} == {
        mine,
        theirs,
    }


@pytest.mark.parametrize("more", [{}, {"batch_id": BATCH}])
async def test_task_event_at_unbound_endpoint_is_fetched(
    taking: Taking, store: Store, more: dict[str, str]
) -> None:
    endpoint_id = add_endpoint(store, None)
    assert await taking.deliver(endpoint_id, task_body(**more)) == ACCEPTED
    assert (fetches(store), store.jobs.list_dead()) == ([("task", TASK)], [])
    (event,) = events(store)
    assert event["key"] == f"{endpoint_id}:task:{TASK}:completed"


@pytest.mark.parametrize("body", [task_body(), task_body(batch_id=BATCH), b"?"], ids=len)
async def test_task_endpoint_fetches_its_task(taking: Taking, store: Store, body: bytes) -> None:
    assert await taking.deliver(add_endpoint(store, TASK, kind="task"), body) == ACCEPTED
    assert fetches(store) == [("task", TASK)]


@pytest.mark.parametrize("body", [task_body("another"), batch_body()], ids=len)
async def test_task_endpoint_fetches_nothing_else(
    taking: Taking, store: Store, body: bytes
) -> None:
    assert await taking.deliver(add_endpoint(store, TASK, kind="task"), body) == ACCEPTED
    assert (fetches(store), len(store.jobs.list_dead())) == ([], 1)


@pytest.mark.parametrize("resource", [None, "cj_1"])
async def test_contents_endpoint_fetches_no_task(
    taking: Taking, store: Store, resource: str | None
) -> None:
    endpoint_id = add_endpoint(store, resource, kind="contents")
    assert await taking.deliver(endpoint_id, task_body()) == ACCEPTED
    assert (fetches(store), len(store.jobs.list_dead())) == ([], 1)


async def test_unbound_endpoint_takes_the_named_resource(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store, None)
    assert await taking.deliver(endpoint_id, batch_body(OTHER_BATCH)) == ACCEPTED
    assert fetches(store) == [("batch", OTHER_BATCH)]
    assert events(store)[0]["key"].startswith(f"{endpoint_id}:")
    assert await taking.deliver(endpoint_id, b"unreadable") == ACCEPTED
    # the second one waits for its resource
    assert fetches(store) == [("batch", OTHER_BATCH), ("batch", None)]


async def test_delivery_before_binding_is_fetched_after(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store, None)
    assert await taking.deliver(endpoint_id, b"unreadable") == ACCEPTED
    store.endpoints.bind(endpoint_id, BATCH)
    assert fetches(store) == [("batch", BATCH)]


async def test_running_status_is_looked_at_once(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    for status in ("processing", "completed"):
        assert await taking.deliver(endpoint_id, batch_body(status=status)) == ACCEPTED
    progress = [event["jobs"][0]["progress"] for event in events(store)]
    assert progress == [{"awaits_end": False}, None]


# Event keys.


async def test_key_covers_the_signed_content(taking: Taking, store: Store) -> None:
    body = batch_body(completed_at="2026-10-05T09:06:12.480Z")
    endpoint_id = add_endpoint(store)
    for second in range(3):
        unsigned = [(b"webhook-id", b"%d" % second), (b"x-request-id", b"%d" % second)]
        headers = signed(body, at=taking.now - second)
        outcome = await taking.deliver(endpoint_id, body, headers + unsigned)
        assert outcome == (DUPLICATE if second else ACCEPTED)
    (event,) = events(store)
    assert event["key"] == f"batch:{BATCH}:completed:2026-10-05T09:06:12.480Z"
    assert (event["deliveries"][0]["copies"], len(event["jobs"])) == (2, 1)
    assert taking.work == 1


async def test_other_status_or_stamp_is_another_event(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    bodies = [batch_body(status=status) for status in ("completed", "cancelled")]
    bodies += [batch_body(completed_at=str(minute)) for minute in range(2)]
    assert [await taking.deliver(endpoint_id, body) for body in bodies] == [ACCEPTED] * 4
    assert fetches(store) == THE_BATCH * 4


async def test_same_key_other_body_is_fetched(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    bodies = [batch_body(cost=cost) for cost in range(7)]
    outcomes = [await taking.deliver(endpoint_id, body) for body in bodies * 2]
    assert outcomes == [ACCEPTED] + [DUPLICATE] * 13
    (event,) = events(store)
    assert [each["body"] for each in event["deliveries"]] == bodies[:5]
    assert fetches(store) == THE_BATCH * 5


async def test_unreadable_status_keys_by_body(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    outcomes = [await taking.deliver(endpoint_id, body) for body in (b"a", b"b", b"a")]
    assert outcomes == [ACCEPTED, ACCEPTED, DUPLICATE]
    assert await taking.deliver(add_endpoint(store), b"a") == ACCEPTED  # keyed by the endpoint


async def test_two_at_once_are_one_event(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    body = batch_body()
    outcomes = await asyncio.gather(*[taking.deliver(endpoint_id, body) for _ in range(20)])
    assert sorted(outcome.outcome for outcome in outcomes) == ["accepted"] + ["duplicate"] * 19
    assert fetches(store) == THE_BATCH


@pytest.mark.parametrize("way", [-1, 1])
async def test_replay_is_duplicate_inside_tolerance_only(store: Store, way: int) -> None:
    async with Taking(store, tolerance=300) as taking:
        endpoint_id, body = add_endpoint(store), batch_body()
        headers = signed(body, at=taking.now)
        began = int(taking.now)
        outcomes = []
        for later in (0, 299, 302):
            taking.now = began + way * later
            outcomes.append(await taking.deliver(endpoint_id, body, headers))
        assert outcomes == [ACCEPTED, DUPLICATE, UNAUTHORIZED]
        assert await taking.refusal() == "stale"


async def test_message_id_is_key_under_endpoint(store: Store) -> None:
    signing = {
        "signature_header": "webhook-signature",
        "timestamp_header": "webhook-timestamp",
        "id_header": "webhook-id",
        "template": "{id}.{timestamp}.{body}",
        "prefix": "v1,",
        "encoding": "base64",
        "readings": ["decoded"],
    }
    secret = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0"  # noqa: S105
    async with Taking(store, signing=signing) as taking:
        mine, other = (add_endpoint(store, secret=secret) for _ in range(2))
        outcomes = []
        for endpoint_id, body in ((mine, b"{}"), (mine, batch_body()), (other, b"{}")):
            headers = standard_headers(standardwebhooks.Webhook(secret), "m-1", body, taking.now)
            outcomes.append(await taking.deliver(endpoint_id, body, headers))
    assert outcomes == [ACCEPTED, DUPLICATE, ACCEPTED]
    assert [event["key"] for event in events(store)] == [f"{mine}:m-1", f"{other}:m-1"]


def standard_headers(webhook: Any, message_id: str, body: bytes, at: float) -> Headers:
    moment = datetime.fromtimestamp(int(at), UTC)
    signature = webhook.sign(message_id, moment, body.decode())
    values = {"id": message_id, "timestamp": str(int(at)), "signature": signature}
    return [(f"webhook-{name}".encode(), value.encode()) for name, value in values.items()]


# Secrets.


async def test_each_secret_opens_only_its_endpoint(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    store.endpoints.set_secret(endpoint_id, OTHER_SECRET)
    secrets = (SECRET, OTHER_SECRET, "f" * 64)
    outcomes = [
        await taking.deliver(endpoint_id, batch_body(), secret=secret) for secret in secrets
    ]
    assert outcomes == [ACCEPTED, DUPLICATE, UNAUTHORIZED]


async def test_another_endpoints_secret_opens_nothing(taking: Taking, store: Store) -> None:
    mine, theirs = add_endpoint(store), add_endpoint(store, OTHER_BATCH, secret=OTHER_SECRET)
    assert await taking.deliver(theirs, batch_body(OTHER_BATCH)) == UNAUTHORIZED
    assert await taking.deliver(mine, batch_body(), secret=OTHER_SECRET) == UNAUTHORIZED
    assert events(store) == []


async def test_the_reading_that_matched_is_remembered(store: Store) -> None:
    async with Taking(store, signing={"readings": ["text", "hex"]}) as taking:
        endpoint_id, body = add_endpoint(store), batch_body()
        stamp = str(int(taking.now)).encode()
        mac = hmac.digest(bytes.fromhex(SECRET), stamp + b"." + body, "sha256").hex().encode()
        headers = [(b"x-webhook-timestamp", stamp), (b"x-webhook-signature", b"sha256=" + mac)]
        assert await taking.deliver(endpoint_id, body, headers) == ACCEPTED
        await until(lambda: remembered(store, endpoint_id) == "hex")
        assert await taking.deliver(endpoint_id, body) == DUPLICATE  # the other stays tried
        await until(lambda: remembered(store, endpoint_id) == "text")


def remembered(store: Store, endpoint_id: str) -> str | None:
    view = store.endpoints.find(endpoint_id)
    assert view is not None
    return view.secrets[0].reading


async def test_pending_secret_answers_503_then_401(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store, secret=None)
    assert await taking.deliver(endpoint_id, batch_body()) == SECRET_PENDING
    taking.now += 23.9 * HOUR
    assert await taking.deliver(endpoint_id, batch_body()) == SECRET_PENDING
    assert store.quarantine.list_newest() == []
    taking.now += 0.2 * HOUR
    assert await taking.deliver(endpoint_id, batch_body()) == UNAUTHORIZED
    assert await taking.refusal() == "missing"
    assert events(store) == []


async def test_early_webhook_accepted_after_registration(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store, secret=None)
    assert await taking.deliver(endpoint_id, batch_body()) == SECRET_PENDING
    store.endpoints.set_secret(endpoint_id, SECRET)
    deadline = time.monotonic() + SOON
    while await taking.deliver(endpoint_id, batch_body()) == SECRET_PENDING:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert fetches(store) == THE_BATCH


# Accounts.


@pytest.mark.parametrize(
    ("body", "subject"),
    [(batch_body(), ("batch", BATCH)), (task_body(batch_id=BATCH), ("task", TASK))],
)
async def test_account_url_fetches_the_named_resource(
    store: Store, body: bytes, subject: tuple[str, str]
) -> None:
    async with Taking(store, signing_secrets=[OTHER_SECRET, SECRET]) as taking:
        outcomes = [await taking.deliver(None, body) for _ in range(2)]
        assert outcomes == [ACCEPTED, DUPLICATE]
        assert await taking.deliver(None, body, secret="f" * 64) == UNAUTHORIZED
    assert fetches(store) == [subject]


async def test_unreadable_account_body_is_dead_letter(
    store: Store,
) -> None:
    async with Taking(store, signing_secrets=[SECRET]) as taking:
        for name, body in UNREADABLE.items():
            assert await taking.deliver(None, body) == ACCEPTED, name
    assert [event["jobs"][0]["status"] for event in events(store)] == ["dead"] * len(UNREADABLE)
    assert [event["deliveries"][0]["body"] for event in events(store)] == [*UNREADABLE.values()]


async def test_unfetched_type_is_recorded_as_ignored(store: Store) -> None:
    event = {"type": "findall.run.completed", "data": {"findall_id": "findall_1"}}
    body = json.dumps(event).encode()
    given: Any = {"provider": "parallel", "signing": {"scheme": "timestamp.body"}}
    async with Taking(store, signing_secrets=[SECRET], **given) as taking:
        assert [await taking.deliver(None, body) for _ in range(2)] == [ACCEPTED, DUPLICATE]
    (event,) = events(store)
    assert (event["disposition"], event["jobs"]) == ("ignored", [])


async def test_source_without_account_secrets_has_no_url(taking: Taking) -> None:
    assert await taking.deliver(None, batch_body()) == NOT_FOUND


async def test_body_lookup_still_needs_the_secret(
    store: Store,
) -> None:
    add_endpoint(store)
    add_endpoint(store, OTHER_BATCH, secret=OTHER_SECRET)
    async with Taking(store, lookup_by_body=True) as taking:
        assert await taking.deliver(None, batch_body()) == ACCEPTED
        for body in (batch_body(OTHER_BATCH), batch_body("unknown"), b"unreadable", b""):
            assert await taking.deliver(None, body) == UNAUTHORIZED
    assert fetches(store) == THE_BATCH


async def test_body_does_not_reveal_a_pending_secret(store: Store) -> None:
    add_endpoint(store, secret=None)
    async with Taking(store, lookup_by_body=True) as taking:
        assert await taking.deliver(None, batch_body()) == UNAUTHORIZED
        assert await taking.refusal() == "mismatch"


async def test_event_found_by_body_is_endpoint_s(store: Store) -> None:
    endpoint_id = add_endpoint(store)
    async with Taking(store, lookup_by_body=True) as taking:
        assert await taking.deliver(None, batch_body()) == ACCEPTED
        assert await taking.deliver(endpoint_id, batch_body()) == DUPLICATE
    assert events(store)[0]["endpoint_id"] == endpoint_id


@pytest.mark.parametrize("pending", [True, False])
async def test_account_secret_opens_every_endpoint(store: Store, pending: bool) -> None:
    endpoint_id = add_endpoint(store, secret=None if pending else OTHER_SECRET)
    async with Taking(store, signing_secrets=[SECRET]) as taking:
        assert await taking.deliver(endpoint_id, batch_body()) == ACCEPTED
        outcome = await taking.deliver(endpoint_id, batch_body(), secret=OTHER_SECRET)
        assert outcome == (UNAUTHORIZED if pending else DUPLICATE)
        assert await taking.deliver(endpoint_id, batch_body(), secret="f" * 64) == UNAUTHORIZED
    assert events(store)[0]["endpoint_id"] == endpoint_id


async def test_account_secret_announces_only_endpoint_resource(
    store: Store,
) -> None:
    async with Taking(store, signing_secrets=[SECRET]) as taking:
        assert await taking.deliver(add_endpoint(store), batch_body(OTHER_BATCH)) == ACCEPTED
    assert (fetches(store), len(store.jobs.list_dead())) == ([], 1)


async def test_account_endpoint_equals_the_account_url(
    store: Store,
) -> None:
    first, second = (add_endpoint(store, None, kind="account") for _ in range(2))
    async with Taking(store, signing_secrets=[OTHER_SECRET]) as taking:
        assert await taking.deliver(first, batch_body()) == ACCEPTED
        assert await taking.deliver(second, batch_body()) == DUPLICATE
        assert await taking.deliver(None, batch_body(), secret=OTHER_SECRET) == DUPLICATE
        assert await taking.deliver(second, task_body()) == ACCEPTED
    assert fetches(store) == [*THE_BATCH, ("task", TASK)]
    assert [event["endpoint_id"] for event in events(store)] == [first, second]


async def test_ended_secret_opens_nothing(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    ends = datetime.now(UTC) + timedelta(minutes=2)
    store.endpoints.rotate_secret(endpoint_id, OTHER_SECRET, old_until=ends)
    outcomes = []
    for seconds in (1, 119, 121):
        taking.now = ends.timestamp() - 120 + seconds
        outcomes += [
            await taking.deliver(endpoint_id, batch_body(), secret=secret)
            for secret in (SECRET, OTHER_SECRET)
        ]
    assert outcomes == [ACCEPTED, *[DUPLICATE] * 3, UNAUTHORIZED, DUPLICATE]


async def test_secrets_file_is_felt_without_restart(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "secrets.txt"
    file.write_text(f"{SECRET}\n")
    async with Taking(store, signing_secrets_file=file) as taking:
        assert await taking.deliver(None, batch_body()) == ACCEPTED
        file.write_text(f"{OTHER_SECRET}\n{SECRET}\n")
        began = time.monotonic()
        while await taking.deliver(None, batch_body(), secret=OTHER_SECRET) == UNAUTHORIZED:
            assert time.monotonic() - began < SOON
            await asyncio.sleep(0.05)
        assert await taking.deliver(None, batch_body()) == DUPLICATE


# Tokens.


def bearing(token: str, body: bytes) -> Headers:
    return [(b"authorization", f"Bearer {token}".encode()), (b"x-body", str(len(body)).encode())]


async def test_token_opens_endpoint_and_is_unstored(store: Store) -> None:
    async with Taking(store, signing={"scheme": "bearer"}) as taking:
        endpoint_id = add_endpoint(store)
        for token in (SECRET, bearer_token(SECRET)):
            outcome = await taking.deliver(endpoint_id, BODY, bearing(token, BODY))
            assert outcome in (ACCEPTED, DUPLICATE)
        await until(lambda: remembered(store, endpoint_id) == "derived")
        outcome = await taking.deliver(endpoint_id, BODY, bearing(OTHER_SECRET, BODY))
        assert (outcome, await taking.refusal()) == (UNAUTHORIZED, "mismatch")
    assert fetches(store) == THE_BATCH
    kept = store.quarantine.show(store.quarantine.ids()[0])
    assert kept["headers"] == f"authorization: [hidden]\nx-body: {len(BODY)}\n"
    assert events(store)[0]["deliveries"][0]["headers"] == kept["headers"]


# Targets.


async def test_unknown_closed_and_foreign_endpoints_404(taking: Taking, store: Store) -> None:
    closed = add_endpoint(store)
    store.endpoints.close(closed)
    foreign = store.endpoints.add("elsewhere", "batch")
    for endpoint_id in (closed, foreign, "A" * 22, "x", ""):
        assert await taking.deliver(endpoint_id, batch_body()) == NOT_FOUND
    assert await taking.intake.find_or_read("unknown", closed) == NOT_FOUND


async def test_endpoint_answers_under_own_source_only(taking: Taking, store: Store) -> None:
    taking.sources["second"] = replace(taking.sources["valyu"], name="second")
    foreign = store.endpoints.add("second", "batch", resource=BATCH)
    store.endpoints.set_secret(foreign, SECRET)
    assert await taking.deliver(foreign, batch_body()) == NOT_FOUND


# Refusals.

BODY = batch_body()


def wrong(name: bytes, value: bytes | None) -> Callable[[Headers], Headers]:
    """The headers with another value of one of them, or without it."""

    def change(headers: Headers) -> Headers:
        kept = [header for header in headers if header[0] != name]
        return kept if value is None else [*kept, (name, value)]

    return change


SIGNATURE, STAMP = b"x-webhook-signature", b"x-webhook-timestamp"


REFUSED: dict[str, tuple[str, Callable[[Headers], Headers]]] = {
    "no signature": ("missing", wrong(SIGNATURE, None)),
    "no timestamp": ("missing", wrong(STAMP, None)),
    "an empty signature": ("missing", wrong(SIGNATURE, b"")),
    "bytes that are no text": ("malformed", wrong(SIGNATURE, b"sha256=\xff\xff")),
    "a wrong signature": ("mismatch", wrong(SIGNATURE, b"sha256=" + b"0" * 64)),
    "another timestamp": ("mismatch", wrong(STAMP, b"1")),
    "thousands of digits": ("malformed", wrong(STAMP, b"9" * 5000)),
    "two signatures": ("malformed", lambda headers: [*headers, (SIGNATURE, b"another")]),
    "too old": ("stale", lambda _: signed(BODY, at=time.time() - 49 * HOUR)),
    "too new": ("stale", lambda _: signed(BODY, at=time.time() + 49 * HOUR)),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_every_refusal_looks_the_same(taking: Taking, store: Store, case: str) -> None:
    reason, change = REFUSED[case]
    outcome = await taking.deliver(add_endpoint(store), BODY, change(signed(BODY)))
    assert outcome == UNAUTHORIZED
    assert await taking.refusal() == reason
    assert events(store) == []


async def test_body_changed_after_signing_is_refused(taking: Taking, store: Store) -> None:
    reserialised = json.dumps(json.loads(BODY), indent=1).encode()
    outcome = await taking.deliver(add_endpoint(store), reserialised, signed(BODY))
    assert outcome == UNAUTHORIZED


# Our own faults.


@pytest.mark.parametrize("taking", [DEADLINE_SECONDS], indirect=True)
@pytest.mark.parametrize("fault", [locked, stuck], ids=["locked", "stuck"])
async def test_unavailable_store_answers_within_two_seconds(
    taking: Taking, store: Store, fault: Any
) -> None:
    endpoint_id = add_endpoint(store)
    await taking.intake.find_or_read("valyu", endpoint_id)
    with fault(store):
        began = time.monotonic()
        assert await taking.deliver(endpoint_id, BODY) == NOT_STORED
        assert time.monotonic() - began < SOON
    assert (NOT_STORED.retry_after or 0) > 0
    async with Taking(store) as taking:  # it recovers
        assert await taking.deliver(endpoint_id, BODY) in (ACCEPTED, DUPLICATE)
    assert fetches(store) == THE_BATCH


async def test_failed_lookup_is_no_unknown_endpoint(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    with broken(store, "endpoints"):
        assert await taking.deliver(endpoint_id, BODY) == NOT_STORED
    assert await taking.deliver(endpoint_id, BODY) == ACCEPTED


async def test_departed_sender_keeps_its_delivery(taking: Taking, store: Store) -> None:
    endpoint_id = add_endpoint(store)
    with locked(store):
        leaving = asyncio.create_task(taking.deliver(endpoint_id, BODY))
        await until(lambda: taking.group_commit._committing)
        leaving.cancel()
    await until(lambda: fetches(store) == THE_BATCH)


# What is kept and what is said.


async def test_headers_are_kept_without_credentials(taking: Taking, store: Store) -> None:
    extra = [
        (b"authorization", b"Bearer hunter2"),
        (b"cookie", b"hunter2"),
        (b"proxy-authorization", b"hunter2"),
        (b"x-api-key", b"hunter2"),
        (b"x-nul", b"a\x00b"),
        (b"x-latin", b"\xe9"),
    ]
    await taking.deliver(add_endpoint(store), BODY, signed(BODY) + extra)
    await taking.deliver(add_endpoint(store), BODY, extra)
    await until(store.quarantine.list_newest)
    kept = events(store)[0]["deliveries"][0]["headers"]
    assert "hunter2" not in kept
    assert {"x-nul: a\ufffdb", "x-latin: é"} < set(kept.splitlines())


async def test_log_holds_no_secret_or_body(
    taking: Taking, store: Store, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    logs.configure(json=True, level="debug")
    caplog.set_level(logging.DEBUG)
    endpoint_id = add_endpoint(store)
    for secret in (SECRET, OTHER_SECRET):
        await taking.deliver(endpoint_id, batch_body(note="hunter2"), secret=secret)
    await taking.deliver(add_endpoint(store, secret=None), BODY)
    await taking.refusal()
    logs.flush()
    said = capsys.readouterr().err + caplog.text
    assert said.count("delivery refused") == 2
    assert not any(text in said for text in (SECRET, OTHER_SECRET, "hunter2", "sha256="))


async def test_each_delivery_is_logged_with_its_outcome(
    taking: Taking, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(json=True)
    endpoint_id = add_endpoint(store)
    for body in (BODY, BODY, batch_body(OTHER_BATCH)):
        await taking.deliver(endpoint_id, body)
    logs.flush()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    outcomes = [line["outcome"] for line in lines if line["event"] == "delivery"]
    assert outcomes == ["accepted", "duplicate", "unusable"]


async def test_forgery_flood_is_one_log_line(
    taking: Taking, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(json=True)
    endpoint_id = add_endpoint(store)
    for _ in range(200):
        assert await taking.deliver(endpoint_id, BODY, secret=OTHER_SECRET) == UNAUTHORIZED
    logs.flush()
    assert capsys.readouterr().err.count("delivery refused") == 1
