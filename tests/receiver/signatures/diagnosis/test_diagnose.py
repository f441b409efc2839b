"""A refusal is explained by what would have made it none, and by one sentence what to do."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import SignatureError
from receiver.signatures.diagnosis import Diagnosis, KnownSecret, RefusedRequest, diagnose
from receiver.signatures.keys import prepare
from receiver.signatures.overrides import override
from receiver.signatures.schemes import (
    BEARER,
    BODY,
    STANDARD_WEBHOOKS,
    TIMESTAMP_BODY,
    AnyScheme,
    Bearer,
    bearer_token,
)
from receiver.signatures.verify import verify
from tests.receiver.signatures.test_verify import NOW, PARALLEL_A, TASK_SECRET, VALYU_SECRET

Headers = list[tuple[bytes, bytes]]

DATA = {"batch_id": "b-1", "status": "completed"}
SENT = json.dumps(DATA, separators=(",", ":")).encode()


def mac(secret: str | bytes, signed: bytes) -> bytes:
    key = secret if isinstance(secret, bytes) else secret.encode()
    return hmac.digest(key, signed, hashlib.sha256)


def valyu(
    secret: str | bytes = VALYU_SECRET,
    body: bytes = SENT,
    *,
    at: int = NOW,
    stamp: bytes = b"x-webhook-timestamp",
    signature: bytes = b"x-webhook-signature",
    form: Callable[[bytes], bytes] = lambda digest: b"sha256=" + digest.hex().encode(),
    signed: bytes = b"%d.%b",
) -> Headers:
    text = str(at).encode()
    digest = mac(secret, signed.replace(b"%d", text).replace(b"%b", body))
    return [(b"host", b"x"), (stamp, text), (signature, form(digest))]


def explain(
    headers: Headers,
    body: bytes = SENT,
    *,
    scheme: AnyScheme = TIMESTAMP_BODY,
    knowns: list[KnownSecret] | None = None,
    **kept: Any,
) -> Diagnosis:
    if knowns is None:
        knowns = [KnownSecret(VALYU_SECRET, "this endpoint's secret", counts_here=True)]
    given = {"is_whole": True, "received_at": NOW, "reason": "mismatch", "detail": "", **kept}
    keys = [key for known in knowns if known.counts_here for key in prepare(scheme, known.text)]
    request = RefusedRequest(7, "valyu", "E", headers, body, **given)
    return diagnose(scheme, request, knowns, keys)


def match(diagnosis: Diagnosis) -> dict[str, str]:
    assert diagnosis.would_match is not None
    return diagnosis.would_match


# What would have matched.


def test_genuine_by_now_is_to_be_retried() -> None:
    found = explain(valyu())
    assert found.advice == (
        "It is genuine by today's secrets and settings: resultsink rejected retry 7"
    )
    assert (found.scheme, found.skew, found.tolerance) == ("timestamp.body", 0.0, 48 * 3600)
    assert [asdict(tried) for tried in found.tried] == [
        {"secret": "this endpoint's secret", "readings": ("text",)}
    ]


BASE64: Callable[[bytes], bytes] = base64.b64encode

CHANGES: dict[str, tuple[Headers, dict[str, object]]] = {
    "another reading": (valyu(bytes.fromhex(VALYU_SECRET)), {"readings": "hex"}),
    "another header": (valyu(signature=b"x-s"), {"signature_header": "x-s"}),
    "another timestamp header": (valyu(stamp=b"x-t"), {"timestamp_header": "x-t"}),
    "no prefix": (valyu(form=lambda digest: digest.hex().encode()), {"prefix": ""}),
    "base64": (valyu(form=BASE64), {"prefix": "", "encoding": "base64"}),
    "a colon": (valyu(signed=b"%d:%b"), {"template": "{timestamp}:{body}"}),
    "v0": (valyu(signed=b"v0:%d:%b"), {"template": "v0:{timestamp}:{body}"}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_following_the_advice_lets_it_in(case: str) -> None:
    headers, settings = CHANGES[case]
    found = explain(headers)
    written = ", ".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())
    assert found.advice.startswith(
        f"In the settings of source valyu add to signing: {{ {written} }}; start serve again"
    )
    scheme = override(TIMESTAMP_BODY, settings, None)
    assert verify(scheme, prepare(scheme, VALYU_SECRET), headers, SENT, now=NOW)


def test_known_scheme_is_named() -> None:
    text = b"v1," + base64.b64encode(mac(VALYU_SECRET, b"m-1.%d." % NOW + SENT))
    headers = [
        (b"webhook-id", b"m-1"),
        (b"webhook-timestamp", b"%d" % NOW),
        (b"webhook-signature", text),
    ]
    found = explain(headers)
    assert '{ scheme = "standard-webhooks" }' in found.advice
    assert [(each.header, each.came, each.look_alikes) for each in found.headers] == [
        ("x-webhook-signature", False, ("webhook-signature",)),
        ("x-webhook-timestamp", False, ("webhook-timestamp",)),
    ]
    svix = [(name.replace(b"webhook", b"svix"), value) for name, value in headers]
    found = explain(svix, scheme=STANDARD_WEBHOOKS)
    assert 'signature_header = "svix-signature"' in found.advice
    assert 'id_header = "svix-id"' in found.advice
    assert [each.look_alikes for each in found.headers] == [
        ("svix-signature",),
        ("svix-timestamp",),
        ("svix-id",),
    ]


def test_unsafe_check_is_not_advised() -> None:
    for signed in (b"%b", b"%d%b"):
        advice = explain(valyu(signed=signed)).advice
        assert "which cannot be set: the signed template must be like" in advice


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (json.dumps(DATA).encode(), "compact, ASCII only"),
        (SENT + b"\n", "without white space around it"),
        (json.dumps(DATA, indent=2).encode(), "compact, ASCII only"),
    ],
)
def test_body_reencoded_by_proxy_is_recognised(came: bytes, said: str) -> None:
    found = explain(valyu(), came)
    assert match(found)["body"] == said
    assert found.advice.startswith(
        f"Something on the way wrote the body anew (it was signed {said}"
    )


def test_other_endpoint_s_secret_is_recognised() -> None:
    knowns = [
        KnownSecret(TASK_SECRET, "endpoint F", counts_here=False),
        KnownSecret(VALYU_SECRET, "this endpoint's secret", counts_here=True),
    ]
    found = explain(valyu(TASK_SECRET), knowns=knowns)
    assert match(found)["secret"] == "endpoint F"  # noqa: S105  a place, no secret
    assert found.advice.startswith("It is signed with endpoint F: give the sender that")
    assert [tried.secret for tried in found.tried] == ["this endpoint's secret"]


@pytest.mark.parametrize(("off", "way"), [(-200_000, "before"), (200_000, "after")])
def test_clock_offset_is_reported_with_tolerance(off: int, way: str) -> None:
    found = explain(valyu(at=NOW + off), reason="stale")
    assert found.skew == -off
    assert f"was signed 200000 s {way} we received it" in found.advice
    assert "sources.valyu.tolerance to more than 200000" in found.advice


def test_misspelt_right_signature_is_reported() -> None:
    upper = valyu(form=lambda digest: b"sha256=" + digest.hex().upper().encode())
    assert explain(upper).advice.endswith("have the sender write it in lower-case hex.")
    bare = valyu(form=lambda digest: digest.hex().upper().encode(), signature=b"x-s")
    assert explain(bare).advice.endswith("have the sender write it in lower-case hex.")


@pytest.mark.parametrize("form", [b"t=%d,v1=%b", b"v1=%b,t=%d"])
def test_timestamp_inside_signature_header_is_recognised(form: bytes) -> None:
    digest = mac(VALYU_SECRET, b"%d." % NOW + SENT).hex().encode()
    value = form.replace(b"%d", b"%d" % NOW).replace(b"%b", digest)
    found = explain([(b"stripe-signature", value)])
    assert match(found)["signature_header"] == "stripe-signature"
    assert found.advice.startswith(
        "The right secret signed it, but in a form that cannot be set: the timestamp stands inside "
        "of stripe-signature"
    )


# Nothing would have matched.


def test_unknown_secret_reported_after_all_tries() -> None:
    found = explain(valyu("f" * 64))
    assert found.would_match is None
    assert found.advice.startswith("No registered secret fits, however it is read")


def test_missing_header_named_with_lookalike() -> None:
    assert explain([(b"host", b"x")]).advice.startswith("x-webhook-signature did not come: it is")
    alike = explain([(b"x-hub-signature", b"sha1=0"), (b"x-webhook-timestamp", b"%d" % NOW)])
    assert alike.advice.startswith("x-webhook-signature did not come, but x-hub-signature did")


def test_missing_secret_names_where_to_register() -> None:
    assert "resultsink endpoint secret E" in explain(valyu(), knowns=[]).advice


def test_cut_body_cannot_be_examined() -> None:
    found = explain(valyu(), is_whole=False)
    assert (found.would_match, found.advice.startswith("Its body was cut")) == (None, True)


def test_malformed_header_is_reported_with_reason() -> None:
    headers = [(b"x-webhook-timestamp", b"now"), (b"x-webhook-signature", b"sha256=?")]
    assert "holds nothing like sha256=" in explain(headers).advice


# Tokens.


@pytest.mark.parametrize("reason", ["missing", "malformed", "mismatch"])
def test_unkept_token_cannot_be_examined(reason: str) -> None:
    found = explain([], scheme=BEARER, reason=reason, detail="the token is none of those")
    assert [(each.header, each.came) for each in found.headers] == [("authorization", None)]
    assert found.advice.endswith("cannot be checked again, because tokens are never kept.")
    assert found.tried[0].readings == ("text", "derived")
    assert bearer_token(VALYU_SECRET) not in str(found)


def test_token_in_other_header_names_setting() -> None:
    headers = [(b"host", b"x"), (b"x-author", b"x"), (b"x-auth-token", b"[hidden]")]
    missing: dict[str, Any] = {"reason": "missing", "detail": "header authorization is missing"}
    found = explain(headers[::2], scheme=BEARER, **missing)
    assert [(each.came, each.look_alikes) for each in found.headers] == [(False, ("x-auth-token",))]
    assert found.advice.startswith(
        "authorization did not come, but x-auth-token did: if the token stands there, add to "
        'signing of source valyu: { header = "x-auth-token" }'
    )
    only = [(b"proxy-authorization", b"[hidden]")]  # which no source may set
    assert explain(only, scheme=BEARER, **missing).advice.startswith("The sender showed no token")
    seen = explain([(b"authorization", b"[hidden]")], scheme=BEARER, detail="the token is none")
    assert seen.headers[0].came


def test_two_tokens_are_reported() -> None:
    detail = "header authorization came with different values"
    found = explain([], scheme=BEARER, reason="malformed", detail=detail)
    assert found.advice.startswith("authorization came more than once, with different values: have")


def test_signature_beside_token_is_examined() -> None:
    scheme = Bearer(signature=BODY)
    headers = [(b"x-other", mac(VALYU_SECRET, SENT).hex().encode())]
    found = explain(headers, scheme=scheme, detail="header x-webhook-signature is missing")
    assert found.scheme == "bearer, body"
    assert 'signature_header = "x-other"' in found.advice


# Anything at all.

wires = st.binary(max_size=70) | st.sampled_from(
    [b"%d" % NOW, b"v1," + BASE64(mac("k", b"")), mac("k", b"").hex().encode()]
)


@given(
    scheme=st.sampled_from([TIMESTAMP_BODY, STANDARD_WEBHOOKS, BEARER, Bearer(signature=BODY)]),
    headers=st.lists(
        st.tuples(st.sampled_from([b"webhook-id", b"x-webhook-signature", b"\xff-id"]), wires),
        max_size=4,
    ),
    body=st.binary(max_size=50) | st.just(b'{"a": [1]}'),
    reason=st.sampled_from(["missing", "malformed", "stale", "mismatch"]),
    at=st.integers(0, 10**10),
)
def test_each_refusal_is_one_secretless_sentence(
    scheme: AnyScheme, headers: Headers, body: bytes, reason: str, at: int
) -> None:
    knowns = [
        KnownSecret(PARALLEL_A, "this", counts_here=True),
        KnownSecret(VALYU_SECRET, "that", counts_here=False),
    ]
    keys = prepare(scheme, PARALLEL_A)
    kept = RefusedRequest(1, "s", None, headers, body, True, at, reason, "detail")
    found = diagnose(scheme, kept, knowns, keys)
    assert found.advice
    assert "\n" not in found.advice
    assert not any(secret in str(asdict(found)) for secret in (PARALLEL_A, VALYU_SECRET))
    with pytest.raises(SignatureError):
        verify(scheme, keys, headers, body, now=at)
