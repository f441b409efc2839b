"""The kept parts of a request can be proven again, and hold no credentials."""

from hypothesis import given
from hypothesis import strategies as st

from receiver.intake.verification import kept_headers, read_headers, verify_delivery
from receiver.sources import configured
from storage import EndpointView
from storage.database import now
from tests.receiver.conftest import SECRET, batch_body, settings, signed

SIGNED = configured(settings())["valyu"]
HEADERS = [
    (b"authorization", b"hunter2"),
    (b"cookie", b"hunter2"),
    (b"x-api-key", b"hunter2"),
    (b"x-callback-token", b"hunter2"),
    (b"x-forwarded-authorization", b"hunter2"),
    (b"x-auth-token", b"hunter2"),
    (b"host", b"x"),
]

names = st.from_regex(rb"\A[a-z][a-z-]{0,9}\Z")
values = st.binary(max_size=30).map(lambda v: v.replace(b"\n", b"").replace(b"\x00", b""))


@given(headers=st.lists(st.tuples(names, values)))
def test_headers_read_back_as_they_came(headers: list[tuple[bytes, bytes]]) -> None:
    assert read_headers(kept_headers(headers, SIGNED)) == headers


def test_undecodable_header_stays_malformed() -> None:
    kept = kept_headers([(b"x-signature", b"a\x00b")], SIGNED)
    assert read_headers(kept) == [(b"x-signature", b"a?b")]


def test_credentials_dropped_under_any_name() -> None:
    given = {"signing": {"scheme": "bearer", "header": "X-Callback-Token"}}
    source = configured(settings(**given))["valyu"]
    assert kept_headers(HEADERS, source) == (
        "authorization: [hidden]\ncookie: [hidden]\nx-api-key: [hidden]\n"
        "x-callback-token: [hidden]\nx-forwarded-authorization: [hidden]\n"
        "x-auth-token: [hidden]\nhost: x\n"
    )


def test_token_header_hidden_under_any_name() -> None:
    given = {"scheme": "bearer", "header": "x-mine", "signature_header": "x-auth-signature"}
    source = configured(settings(signing=given))["valyu"]
    headers = [(name, b"v") for name in (b"x-mine", b"x-auth-signature", b"cookie")]
    assert kept_headers(headers, source) == (
        "x-mine: [hidden]\nx-auth-signature: v\ncookie: [hidden]\n"
    )


def test_credentials_dropped_where_bodies_are_signed() -> None:
    assert kept_headers([(b"authorization", b"a"), (b"host", b"x")], SIGNED) == "host: x\n"


def test_event_has_one_key_at_all_account_urls() -> None:
    source = configured(settings(signing_secrets=[SECRET]))["valyu"]
    body, moment = batch_body(), now()
    views = [None, *(EndpointView(i, "valyu", "account", None, "open", moment) for i in "ab")]
    keys, at = source.account_keys, moment.timestamp()
    deliveries = [
        verify_delivery(source, view, keys, signed(body), body, now=at).delivery for view in views
    ]
    assert len({delivery.key for delivery in deliveries}) == 1
    assert [delivery.endpoint_id for delivery in deliveries] == [None, "a", "b"]
    assert {delivery.disposition for delivery in deliveries} == {"fetch"}
