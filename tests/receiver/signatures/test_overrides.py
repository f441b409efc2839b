"""Overrides of a source's scheme, and those that are refused."""

import hmac
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import SignatureError
from receiver.signatures import overrides
from receiver.signatures.keys import prepare
from receiver.signatures.schemes import (
    BEARER,
    STANDARD_WEBHOOKS,
    TIMESTAMP_BODY,
    AnyScheme,
    Bearer,
    Scheme,
)
from receiver.signatures.verify import verify
from tests.receiver.signatures.test_verify import NOW, VALYU_SECRET


def override(
    scheme: AnyScheme, settings: dict[str, object], tolerance: float | None = None
) -> Scheme:
    """A scheme that signs, as these settings have it."""
    changed = overrides.override(scheme, settings, tolerance)
    assert isinstance(changed, Scheme)
    return changed


def bearer(settings: dict[str, object], scheme: AnyScheme = BEARER) -> Bearer:
    """A scheme with a token, as these settings have it."""
    changed = overrides.override(scheme, settings, None)
    assert isinstance(changed, Bearer)
    return changed


def test_override_changes_what_a_source_says() -> None:
    settings: dict[str, object] = {
        "signature_header": "X-Hub-Signature",
        "timestamp_header": "X-Time",
        "id_header": "X-Id",
        "template": "v0:{timestamp}:{id}:{body}",
        "prefix": "v0=",
        "readings": "hex",
    }
    scheme = override(TIMESTAMP_BODY, settings, 60)
    key = bytes.fromhex(VALYU_SECRET)
    signature = hmac.digest(key, f"v0:{NOW}:e-1:body".encode(), "sha256").hex()
    headers = [(b"x-hub-signature", b"v0=" + signature.encode())]
    headers += [(b"x-time", str(NOW).encode()), (b"x-id", b"e-1")]
    match = verify(scheme, prepare(scheme, VALYU_SECRET), headers, b"body", now=NOW + 60)
    assert (match.message_id, match.key.reading) == ("e-1", "hex")
    with pytest.raises(SignatureError, match="separator"):
        verify(scheme, prepare(scheme, VALYU_SECRET), [*headers[:2], (b"x-id", b"e:1")], b"", now=1)


def test_unsigned_id_is_no_longer_read() -> None:
    scheme = override(STANDARD_WEBHOOKS, {"template": "{timestamp}.{body}"}, None)
    assert scheme.id_header is None
    assert scheme.tolerance == 300


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"algorithm": "md5"}, "unknown signing setting 'algorithm'"),
        ({"template": "{timestamp}"}, "template must be like"),
        ({"template": "{body}"}, "template must be like"),
        ({"template": "{id}.{body}", "id_header": "x-id"}, "template must be like"),
        ({"template": "{timestamp}{body}"}, "template must be like"),
        ({"template": "{timestamp}0{body}"}, "template must be like"),
        ({"template": "{body}.{timestamp}"}, "template must be like"),
        ({"template": "{timestamp}.{timestamp}.{body}"}, "template must be like"),
        ({"template": "{timestamp}.{secret}.{body}"}, "template must be like"),
        ({"template": "%{timestamp}.{body}"}, "template must be like"),
        ({"template": "{timestamp}.{body}\n"}, "template must be like"),
        ({"template": "{id}.{timestamp}.{body}"}, "need each other"),
        ({"id_header": "x-id"}, "need each other"),
        ({"signature_header": "x signature"}, "not a lower-case HTTP header name"),
        ({"signature_header": ""}, "not a lower-case HTTP header name"),
        ({"signature_header": "x-\xe9:"}, "not a lower-case HTTP header name"),
        ({"signature_header": "x-webhook-timestamp"}, "different names"),
        ({"signature_header": "Host"}, "header host is HTTP's own: name one that the sender adds"),
        ({"timestamp_header": "date"}, "header date is HTTP's own"),
        ({"template": "{id}.{timestamp}.{body}", "id_header": "Content-Length"}, "HTTP's own"),
        ({"scheme": "bearer", "header": "cookie"}, "header cookie is HTTP's own"),
        ({"scheme": "bearer", "signature_header": "connection"}, "HTTP's own"),
        ({"signature_header": 5}, "signing setting signature_header: must be text"),
        ({"prefix": "v1 "}, "prefix"),
        ({"encoding": "base32"}, "unknown signature encoding"),
        ({"readings": []}, "readings must be"),
        ({"readings": ["text", "rot13"]}, "rot13"),
        ({"readings": 5}, "must be a list"),
        ({"readings": [5]}, "must be text"),
        ({"scheme": "md5"}, "signing setting scheme: must be timestamp.body, standard-webhooks or"),
        ({"scheme": ["bearer"]}, "signing setting scheme: must be"),
        ({"header": "x-token"}, "for the scheme bearer only"),
        ({"scheme": "bearer", "header": "x token"}, "not a lower-case HTTP header name"),
        ({"scheme": "bearer", "signature_header": "authorization"}, "different names"),
        ({"scheme": "bearer", "template": "{timestamp}.{body}"}, "needs a timestamp header"),
    ],
)
def test_unknown_or_unsafe_override_is_refused(settings: dict[str, object], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        overrides.override(TIMESTAMP_BODY, settings, None)


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), float("inf")])
def test_a_tolerance_is_a_positive_number(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance"):
        override(TIMESTAMP_BODY, {}, tolerance)


@given(
    settings=st.dictionaries(
        st.sampled_from(["signature_header", "id_header", "template", "prefix", "readings"]),
        st.text() | st.integers() | st.none() | st.lists(st.text()) | st.binary(),
    )
)
def test_override_raises_only_value_error(settings: dict[str, object]) -> None:
    with suppress(ValueError):
        assert override(TIMESTAMP_BODY, settings, None).name == "timestamp.body"


# Other schemes to begin with.


def test_source_may_begin_with_another_scheme() -> None:
    assert override(TIMESTAMP_BODY, {"scheme": "standard-webhooks"}) == STANDARD_WEBHOOKS
    scheme = override(STANDARD_WEBHOOKS, {"scheme": "timestamp.body", "prefix": "v1="}, 60)
    assert (scheme.name, scheme.prefix, scheme.tolerance) == ("timestamp.body", b"v1=", 60)
    assert bearer({"scheme": "bearer"}, TIMESTAMP_BODY) == BEARER
    assert bearer({"header": "X-Callback-Token"}).header == b"x-callback-token"


def test_overrides_beside_token_concern_the_signature() -> None:
    assert bearer({}).signature is None
    assert bearer({"scheme": "standard-webhooks"}).signature == STANDARD_WEBHOOKS
    alone = bearer({"signature_header": "X-Parallel-Signature", "prefix": "sha256="}).signature
    assert alone is not None
    assert (alone.signature_header, alone.template) == (b"x-parallel-signature", "{body}")
    timed = bearer({"signature_header": "x-s", "timestamp_header": "x-t"}).signature
    assert timed is not None
    assert (timed.timestamp_header, timed.template) == (b"x-t", "{timestamp}.{body}")


@given(
    settings=st.dictionaries(
        st.sampled_from(["scheme", "header", "signature_header", "timestamp_header", "template"]),
        st.text() | st.integers() | st.sampled_from(["bearer", "standard-webhooks", "{body}", "x"]),
    ),
    base=st.sampled_from([BEARER, TIMESTAMP_BODY, STANDARD_WEBHOOKS]),
)
def test_only_token_permits_timeless_signature(
    settings: dict[str, object], base: AnyScheme
) -> None:
    with suppress(ValueError):
        changed = overrides.override(base, settings, None)
        assert isinstance(changed, Bearer) or changed.timestamp_header is not None
