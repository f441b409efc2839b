"""Readings of a secret's text, and texts that can be none."""

import hashlib
import hmac
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.signatures.keys import BearerToken, doubt, prepare
from receiver.signatures.schemes import (
    BEARER,
    BODY,
    READINGS,
    SCHEMES,
    STANDARD_WEBHOOKS,
    TIMESTAMP_BODY,
    AnyScheme,
    Bearer,
    Scheme,
    bearer_token,
)
from tests.receiver.signatures.test_verify import PARALLEL_A, VALYU_SECRET


@pytest.mark.parametrize(
    ("secret", "hint"),
    [
        ("", "empty"),
        ("short", "too short"),
        ("whsec_", "too short"),
        ("whsec_c2hvcnQ=", "too short"),
        ("whsec_MDEyMzQ1Njc4OWFi", "too short"),  # as text it would be long enough
        (f'"{PARALLEL_A}"', "quotes"),
        (f"{PARALLEL_A}'", "quotes"),
        (f"{PARALLEL_A}\n", "line end"),
        (f" {PARALLEL_A}", "spaces"),
        (f"{PARALLEL_A}!", "not base64"),
        (PARALLEL_A.replace("l", "-"), "not base64"),
        (PARALLEL_A + "A", "not base64"),
        (PARALLEL_A.replace("Y", "\u200b"), "printable ASCII"),
        (f"{PARALLEL_A[:20]} {PARALLEL_A[20:]}", "printable ASCII"),
        ("whpk_" + "A" * 44, "key pair"),
        ("whsec_whpk_" + "A" * 44, "key pair"),
        ("whsk_" + "A" * 88, "key pair"),
        ("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA", "key pair"),
        ("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=", "key pair"),
        ("A" * 2000, "longer"),
        (f"SECRET={PARALLEL_A}", "has whsec_ inside of it: paste only what stands behind the ="),
        (f"whsec_{PARALLEL_A}", "whsec_ inside"),
        ("https://hooks.example.com/webhooks/parallel", "is a URL: paste the secret itself"),
    ],
)
def test_impossible_secret_is_explained_unseen(secret: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        prepare(STANDARD_WEBHOOKS, secret)
    assert not secret or len(secret) < 8 or secret not in str(caught.value)


def test_the_readings_of_a_secret() -> None:
    def readings(secret: str, *names: str) -> list[str]:
        scheme = replace(STANDARD_WEBHOOKS, readings=names or STANDARD_WEBHOOKS.readings)
        return [key.reading for key in prepare(scheme, secret)]

    assert readings(PARALLEL_A) == ["decoded", "text"]
    assert readings("a plain text secret".replace(" ", "-")) == ["text"]
    assert readings(VALYU_SECRET, "hex", "bare", "text") == ["hex", "text"]
    assert readings(PARALLEL_A, "bare") == ["bare"]
    with pytest.raises(ValueError, match="too short or not hex"):
        readings("not-hex-but-long-enough", "hex")


def test_missing_whsec_doubted_only_where_usual() -> None:
    for scheme in (STANDARD_WEBHOOKS, Bearer(signature=STANDARD_WEBHOOKS)):
        assert doubt(scheme, PARALLEL_A) is None
        said = doubt(scheme, VALYU_SECRET)
        assert said is not None
        assert said.startswith("The secret does not begin with whsec_")
        assert VALYU_SECRET not in said
    assert [doubt(scheme, VALYU_SECRET) for scheme in (TIMESTAMP_BODY, BEARER)] == [None, None]


def test_key_hides_itself_and_refuses_pickle() -> None:
    (key,) = prepare(TIMESTAMP_BODY, VALYU_SECRET, secret_id=3)
    token = prepare(BEARER, VALYU_SECRET, secret_id=3)[0]
    assert repr(key) == repr(token) == "Key(secret_id=3, reading='text')"
    for each in (key, token):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(each)


# Tokens.


def test_token_is_secret_or_derived() -> None:
    derived = hmac.digest(VALYU_SECRET.encode(), b"resultsink bearer token", "sha256").hex()
    assert bearer_token(VALYU_SECRET) == derived
    text, other = prepare(BEARER, VALYU_SECRET, secret_id=7)
    assert isinstance(text, BearerToken)
    assert isinstance(other, BearerToken)
    assert [(key.reading, key.secret_id) for key in (text, other)] == [("text", 7), ("derived", 7)]
    assert text.is_shown_by(hashlib.sha256(VALYU_SECRET.encode()).digest())
    assert other.is_shown_by(hashlib.sha256(derived.encode()).digest())
    assert not other.is_shown_by(hashlib.sha256(VALYU_SECRET.encode()).digest())


def test_signing_secret_has_keys_after_tokens() -> None:
    keys = prepare(Bearer(signature=STANDARD_WEBHOOKS), PARALLEL_A)
    assert [key.reading for key in keys] == ["text", "derived", "decoded", "text"]
    assert [isinstance(key, BearerToken) for key in keys] == [True, True, False, False]


@pytest.mark.parametrize(("secret", "hint"), [("short", "too short"), ("whpk_" + "A" * 44, "pair")])
def test_impossible_token_is_refused(secret: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        prepare(BEARER, secret)
    with pytest.raises(ValueError, match=r"not base64|too short|pair"):
        prepare(Bearer(signature=STANDARD_WEBHOOKS), "whsec_" + secret)


# Totality.

schemes = st.sampled_from([*SCHEMES.values(), BODY]) | st.sampled_from(
    [BEARER, Bearer(signature=STANDARD_WEBHOOKS), Bearer(signature=BODY)]
)


def readings_of(scheme: AnyScheme, secret: str) -> list[str]:
    if isinstance(scheme, Bearer):
        signing = readings_of(scheme.signature, secret) if scheme.signature else []
        return ["text", "derived", *signing]
    assert isinstance(scheme, Scheme)
    return [name for name in scheme.readings if len(READINGS[name](secret) or b"") >= 16]


@given(scheme=schemes, secret=st.text() | st.from_regex(r"whsec_[ -~]*"))
def test_prepare_is_total_over_readings(scheme: AnyScheme, secret: str) -> None:
    try:
        keys = prepare(scheme, secret)
    except ValueError:
        return
    assert [key.reading for key in keys] == readings_of(scheme, secret)
