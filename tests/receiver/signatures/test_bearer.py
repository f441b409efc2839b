"""Tokens in a header: shown, compared, and never enough where a signature is asked for too."""

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import SignatureError
from receiver.signatures.keys import prepare
from receiver.signatures.schemes import (
    BEARER,
    BODY,
    STANDARD_WEBHOOKS,
    AnyScheme,
    Bearer,
    bearer_token,
)
from receiver.signatures.verify import MAX_KEYS, Match, verify
from tests.receiver.signatures.test_verify import NOW, PARALLEL_A, VALYU_SECRET, reason

Headers = list[tuple[bytes, bytes]]

ALONE = Bearer(header=b"x-callback-token")
SIGNED = Bearer(signature=BODY)
STANDARD = Bearer(signature=STANDARD_WEBHOOKS)


def check(
    headers: Headers,
    *,
    scheme: AnyScheme = BEARER,
    secret: str = VALYU_SECRET,
    body: bytes = b"{}",
    now: float = NOW,
) -> Match:
    return verify(scheme, prepare(scheme, secret), headers, body, now=now)


def shown(token: str = VALYU_SECRET, word: str = "Bearer") -> Headers:
    return [(b"host", b"x"), (b"authorization", f"{word} {token}".encode("latin-1"))]


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
def test_secret_or_derived_token_opens(word: str) -> None:
    for token, reading in ((VALYU_SECRET, "text"), (bearer_token(VALYU_SECRET), "derived")):
        match = check(shown(token, word))
        assert (match.key.reading, match.timestamp, match.skew) == (reading, None, None)
        assert match.message_id is None


def test_no_more_tokens_are_tried_than_keys() -> None:
    others = [key for number in range(MAX_KEYS) for key in prepare(BEARER, f"{number:032}")]
    right = list(prepare(BEARER, VALYU_SECRET))
    assert verify(BEARER, others[: MAX_KEYS - 1] + right, shown(), b"", now=NOW).key is right[0]
    tried_too_late = others[:MAX_KEYS] + right
    assert reason(lambda: verify(BEARER, tried_too_late, shown(), b"", now=NOW)) == "mismatch"


def test_another_header_may_hold_the_token() -> None:
    for value in (VALYU_SECRET, f"Bearer {VALYU_SECRET}"):
        assert check([(b"x-callback-token", value.encode())], scheme=ALONE)
    assert reason(lambda: check(shown(), scheme=ALONE)) == "missing"


REFUSED: dict[str, tuple[str, Headers]] = {
    "no header": ("missing", []),
    "an empty header": ("missing", [(b"authorization", b"")]),
    "the token alone": ("malformed", [(b"authorization", VALYU_SECRET.encode())]),
    "another word": ("malformed", shown(word="Basic")),
    "a space inside": ("malformed", shown(VALYU_SECRET[:20] + " " + VALYU_SECRET[20:])),
    "the word alone": ("malformed", shown("")),
    "short": ("malformed", shown("short")),
    "endless": ("malformed", shown("a" * 5000)),
    "not ASCII": ("malformed", shown("\xe9" * 20)),
    "two tokens": ("malformed", [*shown(), *shown("f" * 64)]),
    "one empty": ("malformed", [(b"authorization", b""), *shown()]),
    "another token": ("mismatch", shown("f" * 64)),
    "a part": ("mismatch", shown(VALYU_SECRET[:-1])),
    "in upper case": ("mismatch", shown(VALYU_SECRET.upper())),
}


@pytest.mark.parametrize("case", REFUSED)
def test_malformed_or_other_token_is_refused(case: str) -> None:
    expected, headers = REFUSED[case]
    assert reason(lambda: check(headers)) == expected


@pytest.mark.parametrize("value", [" Bearer %b", "Bearer %b \t", "\tBearer  %b"])
def test_white_space_around_token_is_ignored(value: str) -> None:
    text = value.replace("%b", VALYU_SECRET).encode()
    assert check([(b"authorization", text)])
    assert check([(b"x-callback-token", text), (b"x-callback-token", text + b" ")], scheme=ALONE)
    alone = [(b"x-callback-token", f" {VALYU_SECRET} ".encode())]
    assert check(alone, scheme=ALONE)


def test_a_header_may_repeat_its_value() -> None:
    assert check(shown() + shown())


def body_mac(secret: str, body: bytes = b"{}") -> Headers:
    mac = hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    return [(b"x-webhook-signature", mac.encode())]


def test_token_and_signature_must_both_match() -> None:
    token, mac = shown(bearer_token(VALYU_SECRET)), body_mac(VALYU_SECRET)
    match = check(token + mac, scheme=SIGNED)
    assert (match.key.reading, match.timestamp, match.skew) == ("derived", None, None)
    assert reason(lambda: check(token, scheme=SIGNED)) == "missing"
    assert reason(lambda: check(mac, scheme=SIGNED)) == "missing"
    assert reason(lambda: check(token + mac, scheme=SIGNED, body=b"{ }")) == "mismatch"


def test_derived_token_cannot_sign() -> None:
    token = bearer_token(VALYU_SECRET)
    assert reason(lambda: check(shown(token) + body_mac(token), scheme=SIGNED)) == "mismatch"


def test_token_signs_nothing_with_an_empty_key() -> None:
    token = shown(bearer_token(VALYU_SECRET))
    empty = hmac.digest(b"", b"{}", hashlib.sha256).hex().encode()
    forged = [*token, (b"x-webhook-signature", empty)]
    assert reason(lambda: check(forged, scheme=SIGNED)) == "mismatch"


def test_standard_signature_beside_token_gives_time() -> None:
    at = datetime.fromtimestamp(NOW, UTC)
    signature = standardwebhooks.Webhook(PARALLEL_A).sign("m-1", at, "{}")
    headers = [
        *shown(PARALLEL_A),
        (b"webhook-id", b"m-1"),
        (b"webhook-timestamp", str(NOW).encode()),
        (b"webhook-signature", signature.encode()),
    ]
    match = check(headers, scheme=STANDARD, secret=PARALLEL_A, now=NOW + 9)
    assert (match.message_id, match.skew, match.key.reading) == ("m-1", 9.0, "text")
    stale: Callable[[], Match] = lambda: check(  # noqa: E731
        headers, scheme=STANDARD, secret=PARALLEL_A, now=NOW + 900
    )
    assert reason(stale) == "stale"


names = st.sampled_from([b"authorization", b"x-callback-token", b"x-webhook-signature"])
values = (
    st.binary(max_size=60)
    | st.binary(max_size=60).map(lambda token: b"Bearer " + token)
    | st.sampled_from([shown()[1][1], shown(bearer_token(VALYU_SECRET))[1][1]])
    | st.sampled_from([body_mac(VALYU_SECRET)[0][1]])
)


@given(
    scheme=st.sampled_from([BEARER, ALONE, SIGNED, STANDARD]),
    headers=st.lists(st.tuples(names | st.binary(max_size=9), values), max_size=4),
    body=st.just(b"{}") | st.binary(),
    now=st.floats(),
)
def test_total_and_accepts_only_the_token(
    scheme: Bearer, headers: Headers, body: bytes, now: float
) -> None:
    try:
        match = check(headers, scheme=scheme, body=body, now=now)
    except SignatureError:
        return
    token = {"text": VALYU_SECRET, "derived": bearer_token(VALYU_SECRET)}[match.key.reading]
    (value,) = {value for name, value in headers if name == scheme.header}
    assert value.removeprefix(b"Bearer ") == token.encode()
    if scheme is SIGNED:
        assert (b"x-webhook-signature", body_mac(VALYU_SECRET, body)[0][1]) in headers
