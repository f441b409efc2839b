"""A request through the real route is answered 200 only if the sender's own library, or a
plain HMAC, takes it for genuine too; and never with a 5xx."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import standardwebhooks
import valyu
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.signatures.schemes import bearer_token
from storage import Store
from tests.receiver.conftest import Headers, Taking, add_endpoint
from tests.receiver.intake.test_routes import request, state

SECRET = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0"  # noqa: S105  of the samples and nothing else
SIGNED_BODY = {"scheme": "bearer", "signature_header": "X-Parallel-Signature"}


def mac(signed: bytes, key: bytes = SECRET.encode()) -> bytes:
    return hmac.digest(key, signed, hashlib.sha256)


def by_valyu(body: bytes, at: int) -> Headers:
    text = str(at).encode()
    signature = b"sha256=" + mac(text + b"." + body).hex().encode()
    return [(b"x-webhook-timestamp", text), (b"x-webhook-signature", signature)]


def by_standard(body: bytes, at: int) -> Headers:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = b"v1," + base64.b64encode(mac(b"m-1.%d." % at + body, key))
    values = {"id": b"m-1", "timestamp": b"%d" % at, "signature": signature}
    return [(f"webhook-{name}".encode(), value) for name, value in values.items()]


def by_token(body: bytes, at: int) -> Headers:
    return [(b"authorization", f"Bearer {bearer_token(SECRET)}".encode())]


def by_both(body: bytes, at: int) -> Headers:
    return [*by_token(body, at), (b"x-parallel-signature", mac(body).hex().encode())]


def valyu_takes(headers: dict[str, str], body: bytes) -> bool:
    stamp, signature = headers["x-webhook-timestamp"], headers["x-webhook-signature"]
    try:
        return bool(valyu.verify_contents_webhook(body, signature, stamp, SECRET))
    except UnicodeDecodeError:  # the helper knows text only
        return signature == "sha256=" + mac(stamp.encode() + b"." + body).hex()


def standard_takes(headers: dict[str, str], body: bytes) -> bool:
    for key in (SECRET, SECRET.encode()):
        try:
            standardwebhooks.Webhook(key).verify(body, headers)
        except standardwebhooks.WebhookVerificationError:
            continue
        except (UnicodeDecodeError, json.JSONDecodeError):  # it reads what it has verified
            pass
        return True
    return False


def token_taken(headers: dict[str, str], body: bytes) -> bool:
    """White space around a value is no part of it (RFC 9110, 5.5)."""
    word, _, token = headers["authorization"].strip(" \t").partition(" ")
    return word.lower() == "bearer" and token.lstrip(" ") in (SECRET, bearer_token(SECRET))


def both_taken(headers: dict[str, str], body: bytes) -> bool:
    return token_taken(headers, body) and headers["x-parallel-signature"] == mac(body).hex()


@dataclass(frozen=True)
class Sender:
    """How a sender signs, and what its own library says of a delivery."""

    signing: dict[str, Any]
    sign: Callable[[bytes, int], Headers]
    takes: Callable[[dict[str, str], bytes], bool]


SENDERS = {
    "valyu": Sender({}, by_valyu, valyu_takes),
    "standard-webhooks": Sender({"scheme": "standard-webhooks"}, by_standard, standard_takes),
    "bearer": Sender({"scheme": "bearer"}, by_token, token_taken),
    "bearer and a signature": Sender(SIGNED_BODY, by_both, both_taken),
}


@pytest.fixture
async def intakes(store: Store) -> AsyncIterator[dict[str, Taking]]:
    """An intake for each way to sign."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(Taking(store, signing=sender.signing))
            for name, sender in SENDERS.items()
        }


# What is done to a genuine delivery: mostly little, so that some of them stay genuine.
_WIRE = st.binary(max_size=50)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("drop"), st.integers(0, 3)),
        st.tuples(st.just("set"), st.integers(0, 3), _WIRE),
        st.tuples(st.just("flip"), st.integers(0, 3), st.integers(0, 600)),
        st.tuples(st.just("upper"), st.integers(0, 3)),
        st.tuples(
            st.just("pad"), st.integers(0, 3), st.sampled_from([b" ", b"\n", b",x", b" v1,x"])
        ),
        st.tuples(st.just("again"), st.integers(0, 3)),
        st.tuples(st.just("add"), st.binary(min_size=1, max_size=9), _WIRE),
        st.tuples(st.just("body"), st.binary(max_size=40)),
    ),
    max_size=2,
)


def changed(headers: Headers, body: bytes, how: tuple[Any, ...]) -> tuple[Headers, bytes]:
    what, where, *more = how
    if what == "body":
        return headers, where
    if what == "add":
        return [*headers, (where.lower(), more[0])], body
    if not headers:
        return headers, body
    where %= len(headers)
    name, value = headers[where]
    flipped = bytearray(value)
    if what == "flip" and value:
        flipped[more[0] % len(value)] ^= 1 << (more[0] % 8)
    one = {
        "drop": [],
        "set": [(name, more[0] if more else b"")],
        "flip": [(name, bytes(flipped))],
        "upper": [(name, value.upper())],
        "pad": [(name, value + more[0] if what == "pad" else value)],
        "again": [(name, value), (name, value)],
    }[what]
    return [*headers[:where], *one, *headers[where + 1 :]], body


@pytest.mark.parametrize("name", SENDERS)
@given(
    body=st.binary(max_size=60) | st.just(b'{"batch_id": "b"}'),
    off=st.sampled_from([0, 0, 0, -400, 400]),
    how=changes,
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_only_what_reference_libraries_accept_is_accepted(
    intakes: dict[str, Taking],
    store: Store,
    name: str,
    body: bytes,
    off: int,
    how: list[tuple[Any, ...]],
) -> None:
    taking, sender = intakes[name], SENDERS[name]
    headers = sender.sign(body, int(taking.now) + off)
    for each in how:
        headers, body = changed(headers, body, each)
    path = f"/webhooks/valyu/{endpoint(store)}"
    message = {"type": "http.request", "body": body, "more_body": False}
    sent = await request(state(taking), path, headers, [message])
    assert sent[0]["status"] in (200, 401)
    if sent[0]["status"] == 200:
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        assert sender.takes(texts, body)
    else:
        assert how or off


def endpoint(store: Store) -> str:
    """The one endpoint there is."""
    rows = store.endpoints.list_all()
    return rows[0]["id"] if rows else add_endpoint(store, secret=SECRET)


@pytest.mark.parametrize("name", SENDERS)
@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(
                [name for sender in SENDERS.values() for name, _ in sender.sign(b"", 0)]
            )
            | st.binary(max_size=20),
            st.binary(max_size=120),
        ),
        max_size=8,
    ),
    body=st.binary(max_size=100),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
async def test_random_bytes_are_only_ever_refused(
    intakes: dict[str, Taking], store: Store, name: str, headers: Headers, body: bytes
) -> None:
    path = f"/webhooks/valyu/{endpoint(store)}"
    message = {"type": "http.request", "body": body, "more_body": False}
    sent = await request(state(intakes[name]), path, headers, [message])
    is_encoded = any(name.lower() == b"content-encoding" for name, _ in headers)
    assert sent[0]["status"] in ({401, 415} if is_encoded else {401})
    assert store.events.list_newest() == []
