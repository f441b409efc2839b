"""Each way to believe a callback of v0: its own headers, and the signatures it might have."""

import hashlib
import hmac
from collections.abc import Iterator

import httpx
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from receiver.sandbox import SandboxServer
from receiver.sandbox.parallel_v0.signing import standard, standard_key
from tests.receiver.sandbox.conftest import log
from tests.receiver.sandbox.parallel_v0.calls import Listener, a_run, a_task

TEXT_KEY = "s3cret-for-r1"
WHSEC = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0"
TOKEN = {"Authorization": "Bearer tok-r1"}


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.mark.parametrize("signed", ["timestamp.body", "body"])
def test_callback_can_be_signed_hex(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener, signed: str
) -> None:
    names = {"v0_signature_header": "X-Parallel-Signature", "v0_timestamp_header": "X-Time"}
    sandbox.change(v0_signature="hmac-sha256", v0_signed_text=signed, **names)
    sandbox.change(v0_signature_prefix="v0=")
    a_run(v0, a_task(v0), "a", **listener.callback(secret=TEXT_KEY, headers=TOKEN))
    [delivery], headers = listener.expect(1), listener.headers[0]
    lead = headers["x-time"].encode() + b"." if signed == "timestamp.body" else b""
    mac = hmac.new(TEXT_KEY.encode(), lead + delivery.body, hashlib.sha256)
    assert headers["x-parallel-signature"] == f"v0={mac.hexdigest()}"
    assert ("x-time" in headers, headers["authorization"]) == (bool(lead), "Bearer tok-r1")


@pytest.mark.parametrize("secret", [WHSEC, TEXT_KEY])
def test_callback_can_use_standard_webhooks(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener, secret: str
) -> None:
    sandbox.change(v0_signature="standard-webhooks", copies=2)
    a_run(v0, a_task(v0), "a", **listener.callback(secret=secret))
    known = Webhook(secret if secret == WHSEC else secret.encode())
    for delivery in listener.expect(2):
        assert known.verify(delivery.body, delivery.headers)["status"] == "complete"
    assert len({headers["webhook-id"] for headers in listener.headers}) == 1


@pytest.mark.parametrize(
    ("secret", "key"),
    [
        (WHSEC, b"parallel-sample-key-A-24"),
        ("whsec_no base64", b"whsec_no base64"),
        ("plain", b"plain"),
    ],
)
def test_standard_key_decoding_is_switch(secret: str, key: bytes) -> None:
    assert standard_key(secret) == key


def test_standard_signature_matches_contract() -> None:
    body = (
        b'{"timestamp":"2026-03-02T10:03:44.951000Z","type":"task_run.status","data":{'
        b'"run_id":"trun_5f0c1d2e3b4a49788a9bacbdcedfe0f1",'
        b'"interaction_id":"trun_5f0c1d2e3b4a49788a9bacbdcedfe0f1","status":"completed",'
        b'"is_active":false,"warnings":null,"error":null,"processor":"core",'
        b'"metadata":{"row":"1"},'
        b'"taskgroup_id":"tgrp_0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071",'
        b'"created_at":"2026-03-02T10:00:01.120000Z","modified_at":"2026-03-02T10:03:44.902113Z"}}'
    )
    event = "whevent_9d2f4b6c8e0a1c3e5f7a9b0c"
    headers = standard(event, "1772445825", standard_key(WHSEC), body)
    assert headers["webhook-signature"] == "v1,49LfufIsrw8hm265Dqt+bzcchMiR+zXEHD4ZwtzoSc4="


def test_callback_without_secret_is_unsigned(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    sandbox.change(v0_signature="hmac-sha256")
    a_run(v0, a_task(v0), "a", **listener.callback())
    listener.expect(1)
    assert "x-webhook-signature" not in listener.headers[0]


def test_a_forged_token_is_wrong_or_missing(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    sandbox.change(forgeries=3)
    a_run(v0, a_task(v0), "a", **listener.callback(headers=TOKEN))
    assert {entry["forgery"] for entry in log(sandbox)} == {None, "wrong_key", "unsigned"}
    tokens = [headers.get("authorization") for headers in listener.headers]
    assert tokens.count("Bearer tok-r1") == tokens.count(None) == 1
    assert all(token is None or token.startswith("Bearer ") for token in tokens)
    assert len({each.body for each in listener.received}) == 1


def test_forged_signed_callbacks_fail(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    sandbox.change(forgeries=3, v0_signature="standard-webhooks")
    a_run(v0, a_task(v0), "a", **listener.callback(secret=WHSEC))
    kinds = {entry["forgery"] for entry in log(sandbox)}
    assert kinds == {None, "wrong_key", "tampered", "unsigned"}
    believed = 0
    for delivery in listener.received:
        try:
            Webhook(WHSEC).verify(delivery.body, delivery.headers)
            believed += 1
        except WebhookVerificationError:
            pass
    assert believed == 1


def test_unproven_callbacks_cannot_be_forged(
    v0: httpx.Client, sandbox: SandboxServer, listener: Listener
) -> None:
    sandbox.change(forgeries=3)
    a_run(v0, a_task(v0), "a", **listener.callback())
    assert [entry["forgery"] for entry in log(sandbox)] == [None]
