"""Variants of a request: bounded, total, and with the usual proxies' habits among it."""

import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.signatures.diagnosis.variants import AS_IT_CAME, bodies, layouts, shown_macs
from receiver.signatures.schemes import STANDARD_WEBHOOKS, TIMESTAMP_BODY

MAC = hmac.digest(b"k", b"m", hashlib.sha256)
DATA = {"b": "é/", "a": [1, 0.5, None]}


@pytest.mark.parametrize(
    "written",
    [
        json.dumps(DATA),
        json.dumps(DATA, separators=(",", ":")),
        json.dumps(DATA, separators=(",", ":"), ensure_ascii=False),
        json.dumps(DATA, indent=2) + "\n",
        json.dumps(DATA, indent=4, ensure_ascii=False),
        json.dumps(DATA, sort_keys=True),
        json.dumps(DATA, separators=(",", ":")).replace("/", "\\/"),
    ],
)
def test_proxy_reencoding_is_found(written: str) -> None:
    came = json.dumps(DATA, indent=1, ensure_ascii=False).encode()
    assert written.encode() in dict(bodies(came)).values()


def test_original_body_first_and_no_repeats() -> None:
    found = list(bodies(b'{"a":1}\n'))
    assert found[0] == (AS_IT_CAME, b'{"a":1}\n')
    assert len({body for _, body in found}) == len(found)


@given(st.binary(max_size=300) | st.recursive(st.text(), st.lists).map(json.dumps).map(str.encode))
def test_any_bytes_have_few_variants(body: bytes) -> None:
    assert 1 <= len(list(bodies(body))) <= 60


@pytest.mark.parametrize("body", [b"[" * 60_000, b"[" * 500 + b"1," * 20_000 + b"1" + b"]" * 500])
def test_nesting_does_not_make_them_large(body: bytes) -> None:
    assert sum(len(variant) for _, variant in bodies(body)) < 100 * len(body)


def test_macs_found_in_any_header_spelling() -> None:
    texts = {
        b"sha256=" + MAC.hex().encode(): ("hex", b"sha256=", True),
        MAC.hex().upper().encode(): ("hex", b"", False),
        b"v1a,x v1,Lgl0A5XXWJdDUBADgvwLYfZOVfdqZn6OcczmDULPN0I=": ("base64", b"v1,", True),
        b"Lgl0A5XXWJdDUBADgvwLYfZOVfdqZn6OcczmDULPN0I": ("base64", b"", False),
    }
    for text, expected in texts.items():
        (shown,) = shown_macs([(b"x", b"y"), (b"x-s", text)])
        assert (shown.encoding, shown.prefix, shown.is_canonical) == expected
        assert shown.header == b"x-s"


def test_configured_header_first_then_lookalikes() -> None:
    headers = [(b"svix-timestamp", b"1791191172"), (b"svix-id", b"m-1"), (b"host", b"x")]
    found = list(layouts(STANDARD_WEBHOOKS, headers))
    assert found[0].template == STANDARD_WEBHOOKS.template
    assert found[0].head == b"m-1.1791191172."
    assert (found[0].id_header, found[0].timestamp_header) == (b"svix-id", b"svix-timestamp")
    assert {layout.template for layout in layouts(TIMESTAMP_BODY, [])} == {"{body}"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a-id", b"id", b"x", b"webhook-timestamp"]),
            st.binary(max_size=70) | st.from_regex(rb"\A[0-9]{10,13}\Z"),
        )
    )
)
def test_many_headers_stay_bounded(headers: list[tuple[bytes, bytes]]) -> None:
    list(shown_macs(headers))
    assert len(list(layouts(STANDARD_WEBHOOKS, headers))) <= 60
