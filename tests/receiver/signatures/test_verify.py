"""verify() against the senders' samples, their own libraries, and arbitrary bytes."""

import base64
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import standardwebhooks
import valyu
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import SignatureError
from receiver.signatures.keys import Key, prepare
from receiver.signatures.schemes import SCHEMES, STANDARD_WEBHOOKS, TIMESTAMP_BODY, Scheme
from receiver.signatures.verify import MAX_ENTRIES, MAX_KEYS, MAX_SIGNATURE_HEADER, Match, verify

Headers = list[tuple[bytes, bytes]]

NOW = 1791191172
# Keys of the samples and of nothing else.
VALYU_SECRET = "5f1c0e9ab7d34826e1f07c9b2a6d8e43905b7fd1c8243ea6b09f5d7e21c4386a"  # noqa: S105
TASK_SECRET = "c4a97e20f86b3d15924ec07ab5d8136fe2709c4b8a51d6f3073e9b1c62f8d540"  # noqa: S105
PARALLEL_A = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0"
PARALLEL_B = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1CLTI0"
MESSAGE_ID = "whevent_9d2f4b6c8e0a1c3e5f7a9b0c"

BATCH_BODY = (
    b'{"batch_id":"batch_7d1f6f0e-3c1a-4c5e-9b2e-0a4f5d8c9e21","mode":"fast","name":"Grid '
    b'storage watch","output_formats":["markdown"],"search_params":{"search_type":"all"},"'
    b'status":"completed_with_errors","counts":{"total":2,"queued":0,"running":0,"complete'
    b'd":1,"failed":1,"cancelled":0},"cost":0.15625,"webhook_url":"https://receiver.exampl'
    b'e.test/hooks/valyu/r_01J8Z4","created_at":"2026-10-05T09:00:00.000Z","metadata":{"te'
    b'am":"energy"},"completed_at":"2026-10-05T09:06:12.480Z"}'
)
TASK_BODY = (
    b'{"deepresearch_id":"3f0c9a52-6b7e-4d18-9a41-5c2e8f7d1b60","status":"completed","quer'
    b'y":"Which sodium-ion grid projects reached operation in 2026?","mode":"fast","output'
    b'_formats":["markdown"],"created_at":"2026-10-05T09:00:05.100Z","completed_at":"2026-'
    b'10-05T09:04:40.250Z","public":false,"title":"Sodium-ion grid projects","total_word_c'
    b'ount":9,"output_type":"markdown","output":"# Sodium-ion grid projects\\n\\nTwo project'
    b's reached operation [1].","sources":[{"title":"Example utility notice","url":"https:'
    b'//utility.example/notice","snippet":"Commissioned in May.","source":"web","fragment"'
    b':"commissioned in May 2026"}],"images":[],"cost":0.15625,"cost_breakdown":{"task":0.'
    b"15625}}"
)
RUN_BODY = (
    b'{"timestamp":"2026-03-02T10:03:44.951000Z","type":"task_run.status","data":{"run_id"'
    b':"trun_5f0c1d2e3b4a49788a9bacbdcedfe0f1","interaction_id":"trun_5f0c1d2e3b4a49788a9b'
    b'acbdcedfe0f1","status":"completed","is_active":false,"warnings":null,"error":null,"p'
    b'rocessor":"core","metadata":{"row":"1"},"taskgroup_id":"tgrp_0a1b2c3d4e5f60718293a4b'
    b'5c6d7e8f90a1b2c3d4e5f6071","created_at":"2026-03-02T10:00:01.120000Z","modified_at":'
    b'"2026-03-02T10:03:44.902113Z"}}'
)
FAILED_RUN_BODY = (
    b'{"timestamp":"2026-03-02T10:04:10.300000Z","type":"task_run.status","data":{"run_id"'
    b':"trun_6a0c1d2e3b4a49788a9bacbdcedfe0f2","interaction_id":"trun_6a0c1d2e3b4a49788a9b'
    b'acbdcedfe0f2","status":"failed","is_active":false,"warnings":null,"error":{"ref_id":'
    b'"6a0c1d2e-3b4a-4978-8a9b-acbdcedfe0f2","message":"Task execution failed","detail":nu'
    b'll},"processor":"core","metadata":{"row":"2"},"taskgroup_id":"tgrp_0a1b2c3d4e5f60718'
    b'293a4b5c6d7e8f90a1b2c3d4e5f6071","created_at":"2026-03-02T10:00:01.120000Z","modifie'
    b'd_at":"2026-03-02T10:04:10.281450Z"}}'
)


def valyu_headers(timestamp: bytes | str, signature: bytes | str) -> Headers:
    return [
        (b"content-type", b"application/json"),
        (b"x-webhook-timestamp", _bytes(timestamp)),
        (b"x-webhook-signature", _bytes(signature)),
    ]


def standard_headers(
    message_id: bytes | str, timestamp: bytes | str, signature: bytes | str
) -> Headers:
    return [
        (b"webhook-id", _bytes(message_id)),
        (b"webhook-timestamp", _bytes(timestamp)),
        (b"webhook-signature", _bytes(signature)),
    ]


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def mac(key: bytes, *parts: bytes | str) -> bytes:
    return hmac.digest(key, b".".join(map(_bytes, parts)), hashlib.sha256)


def sign_valyu(body: bytes, timestamp: bytes | str = str(NOW), secret: str = VALYU_SECRET) -> str:
    return "sha256=" + mac(secret.encode(), timestamp, body).hex()


def sign_standard(
    body: bytes,
    message_id: str = MESSAGE_ID,
    timestamp: str = str(NOW),
    key: bytes = b"parallel-sample-key-A-24",
) -> str:
    return "v1," + base64.b64encode(mac(key, message_id, timestamp, body)).decode()


def check_valyu(headers: Headers, body: bytes = BATCH_BODY, *, now: float = NOW) -> Match:
    return verify(TIMESTAMP_BODY, prepare(TIMESTAMP_BODY, VALYU_SECRET), headers, body, now=now)


def check_standard(headers: Headers, body: bytes = RUN_BODY, *, now: float = NOW) -> Match:
    keys = prepare(STANDARD_WEBHOOKS, PARALLEL_A)
    return verify(STANDARD_WEBHOOKS, keys, headers, body, now=now)


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(SignatureError) as caught:
        call()
    return caught.value.reason


# The senders' samples (contracts/valyu.md 5a-5c, contracts/parallel.md 7.2).

VALYU_SAMPLES = {
    "5a": (
        VALYU_SECRET,
        "1791191172",
        "2ae954e397e0df0d6cbed263acd68d47f76a11df52929d13a54025786952d57a",
        BATCH_BODY,
    ),
    "5b": (
        VALYU_SECRET,
        "1791191202",
        "448ee452394b2ef3b1821725c2897ef354301d1c7ead490752ead11878a991d6",
        BATCH_BODY,
    ),
    "5c": (
        TASK_SECRET,
        "1791191080",
        "4de136a2e4353504e5e7e2b9317bd5bf2be5a8f5984cf841352557a981f7bd03",
        TASK_BODY,
    ),
}


@pytest.mark.parametrize("sample", VALYU_SAMPLES)
def test_a_sample_of_valyu_is_genuine(sample: str) -> None:
    secret, timestamp, digits, body = VALYU_SAMPLES[sample]
    keys = prepare(TIMESTAMP_BODY, secret, secret_id=7)
    headers = valyu_headers(timestamp, "sha256=" + digits)
    match = verify(TIMESTAMP_BODY, keys, headers, body, now=NOW + 60)
    assert match == Match(keys[0], float(timestamp), NOW + 60 - float(timestamp), None)
    assert (match.key.secret_id, match.key.reading) == (7, "text")
    assert valyu.verify_contents_webhook(body, "sha256=" + digits, timestamp, secret)


PARALLEL_SAMPLES = {
    "first attempt": (
        PARALLEL_A,
        "1772445825",
        "v1,49LfufIsrw8hm265Dqt+bzcchMiR+zXEHD4ZwtzoSc4=",
        "decoded",
    ),
    "retry": (
        PARALLEL_A,
        "1772445830",
        "v1,Alrv1Q/AC7YYVtbr8zV66UpcIe3UdJYSrTMVBaC1Z/E=",
        "decoded",
    ),
    "earlier account": (
        PARALLEL_A,
        "1772445825",
        "v1,Dss7CBBIlrtrNSKuGbtlV9+o2xsMggmG2qUebGrghsk=",
        "text",
    ),
}


@pytest.mark.parametrize("sample", PARALLEL_SAMPLES)
def test_parallel_sample_verifies_and_names_reading(sample: str) -> None:
    secret, timestamp, signature, reading = PARALLEL_SAMPLES[sample]
    keys = prepare(STANDARD_WEBHOOKS, secret)
    headers = standard_headers(MESSAGE_ID, timestamp, signature)
    match = verify(STANDARD_WEBHOOKS, keys, headers, RUN_BODY, now=float(timestamp))
    assert (match.key.reading, match.message_id) == (reading, MESSAGE_ID)


@pytest.mark.parametrize("secret", [PARALLEL_A, PARALLEL_B])
def test_either_secret_verifies_during_rotation(secret: str) -> None:
    headers = standard_headers(
        "whevent_0f1e2d3c4b5a69788796a5b4",
        "1772445851",
        "v1,d7+o2ofQFhV1L9udsPp9rnXG0gYBSVsH8rX+jo4NPd4= "
        "v1,cCHqISKuXHP+qMm+5WLs7ZN/5qaUgypR4TCxiHON4Qg=",
    )
    keys = prepare(STANDARD_WEBHOOKS, secret)
    assert verify(STANDARD_WEBHOOKS, keys, headers, FAILED_RUN_BODY, now=1772445851)


# The senders' own libraries, both ways.

texts = st.text(st.characters(codec="utf-8"), max_size=200)
tokens = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=16)
seconds = st.integers(0, 10**11)


@given(body=texts, timestamp=seconds, secret=tokens)
def test_what_valyus_helper_accepts_is_accepted(body: str, timestamp: int, secret: str) -> None:
    signature = sign_valyu(body.encode(), str(timestamp), secret)
    assert valyu.verify_contents_webhook(body.encode(), signature, str(timestamp), secret)
    keys = prepare(TIMESTAMP_BODY, secret)
    headers = valyu_headers(str(timestamp), signature)
    assert verify(TIMESTAMP_BODY, keys, headers, body.encode(), now=timestamp)


near = st.sampled_from(
    [str(NOW), f"0{NOW}", f"{NOW}.0", f"+{NOW}", f" {NOW}", f"{NOW}000", "", "x"]
)
genuine = sign_valyu(b"{}")
spellings = st.sampled_from(
    [genuine, genuine.upper(), genuine[7:], genuine + "\n", genuine + " ", f"{genuine} {genuine}"]
)


@given(timestamp=near, signature=spellings, body=st.sampled_from([b"{}", b"{ }"]))
def test_what_we_accept_valyus_helper_accepts(timestamp: str, signature: str, body: bytes) -> None:
    try:
        check_valyu(valyu_headers(timestamp, signature), body)
    except SignatureError:
        return
    assert valyu.verify_contents_webhook(body, signature, timestamp, VALYU_SECRET)


@given(body=texts, key=st.binary(min_size=16, max_size=64), message_id=tokens)
def test_what_standardwebhooks_signs_is_accepted(body: str, key: bytes, message_id: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    message_id = message_id[:256]
    at = datetime.now(UTC)
    signature = standardwebhooks.Webhook(secret).sign(message_id, at, body)
    headers = standard_headers(message_id, str(int(at.timestamp())), signature)
    keys = prepare(STANDARD_WEBHOOKS, secret)
    match = verify(STANDARD_WEBHOOKS, keys, headers, body.encode(), now=at.timestamp())
    assert (match.key.reading, match.message_id) == ("decoded", message_id)


@given(offset=st.integers(-320, 320), message_id=st.sampled_from(["m", "m.1", "", "m\xe9"]))
def test_what_we_accept_standardwebhooks_accepts(offset: int, message_id: str) -> None:
    now = datetime.now(UTC).timestamp()
    timestamp = str(int(now) + offset)
    headers = standard_headers(
        message_id, timestamp, sign_standard(b"{}", message_id, timestamp) + " v1a,x"
    )
    try:
        check_standard(headers, b"{}", now=now)
    except SignatureError:
        return
    if abs(offset) < 298:  # the library reads the clock itself, a moment later
        texts = {name.decode(): value.decode() for name, value in headers}
        assert standardwebhooks.Webhook(PARALLEL_A).verify(b"{}", texts) == {}


# Each rule.


def test_signed_timestamp_in_seconds_or_milliseconds() -> None:
    headers = valyu_headers(f"{NOW}250", sign_valyu(BATCH_BODY, f"{NOW}250"))
    match = check_valyu(headers, now=NOW + 1)
    assert match.timestamp == NOW + 0.25
    assert match.skew == 0.75


TIMESTAMPS = [
    *("x", "-1", "+1", "1e9", "1.0", "1_0", "0x1", "nan", "inf", "\u0661\u0662"),
    *("01791191172", "17911911720000", "1791191172\x00", "1791191172,", " 1791191172"),
    *("1791191172\n", pytest.param("1" * 5000, id="long")),
]


@pytest.mark.parametrize("timestamp", TIMESTAMPS)
def test_timestamp_is_bounded_plain_digits(timestamp: str) -> None:
    headers = valyu_headers(timestamp, sign_valyu(BATCH_BODY, timestamp))
    assert reason(lambda: check_valyu(headers)) == "malformed"


@pytest.mark.parametrize("past", [True, False])
@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
def test_tolerance_is_two_sided_and_explained(scheme: Scheme, past: bool) -> None:
    if scheme is TIMESTAMP_BODY:
        check, headers = check_valyu, valyu_headers(str(NOW), sign_valyu(b"{}"))
    else:
        check, headers = (
            check_standard,
            standard_headers(MESSAGE_ID, str(NOW), sign_standard(b"{}")),
        )
    edge = scheme.tolerance if past else -scheme.tolerance
    assert check(headers, b"{}", now=NOW + edge).skew == edge
    assert reason(lambda: check(headers, b"{}", now=NOW + edge * 1.001)) == "stale"
    assert reason(lambda: check(headers, b"{} ", now=NOW + edge * 1.001)) == "mismatch"


@pytest.mark.parametrize("now", [float("nan"), float("inf"), float("-inf")])
def test_clock_not_a_number_accepts_nothing(now: float) -> None:
    headers = valyu_headers(str(NOW), sign_valyu(BATCH_BODY))
    assert reason(lambda: check_valyu(headers, now=now)) == "stale"


@pytest.mark.parametrize("name", [b"webhook-id", b"webhook-timestamp", b"webhook-signature"])
def test_each_header_is_required_nonempty(name: bytes) -> None:
    headers = standard_headers(MESSAGE_ID, str(NOW), sign_standard(RUN_BODY))
    without = [pair for pair in headers if pair[0] != name]
    assert reason(lambda: check_standard(without)) == "missing"
    assert reason(lambda: check_standard([*without, (name, b"")])) == "missing"


@pytest.mark.parametrize("name", [b"webhook-id", b"webhook-timestamp", b"webhook-signature"])
def test_repeated_header_must_repeat_its_value(name: bytes) -> None:
    headers = standard_headers(MESSAGE_ID, str(NOW), sign_standard(RUN_BODY))
    again = next(pair for pair in headers if pair[0] == name)
    assert check_standard([*headers, again])
    assert reason(lambda: check_standard([*headers, (name, again[1] + b"0")])) == "malformed"
    assert reason(lambda: check_standard([(name, b""), *headers])) == "malformed"


HEX_SPELLINGS: dict[str, Callable[[str], str]] = {
    "upper case": str.upper,
    "digits in upper case": lambda text: "sha256=" + text[7:].upper(),
    "prefix in upper case": lambda text: "SHA256" + text[6:],
    "no prefix": lambda text: text[7:],
    "another prefix": lambda text: "sha1" + text[6:],
    "too short": lambda text: text[:-1],
    "too long": lambda text: text + "0",
    "space after": lambda text: text + " ",
    "space before": lambda text: " " + text,
    "0x": lambda text: text.replace("=", "=0x"),
    "twice": lambda text: f"{text} {text}",
    "twice with a comma": lambda text: f"{text},{text}",
    "another digit": lambda text: text[:-1] + "g",
    "not ASCII": lambda text: text[:-2] + "\xe9",
}


@pytest.mark.parametrize("spell", HEX_SPELLINGS.values(), ids=HEX_SPELLINGS)
def test_hex_has_one_spelling(spell: Callable[[str], str]) -> None:
    headers = valyu_headers(str(NOW), spell(sign_valyu(BATCH_BODY)))
    assert reason(lambda: check_valyu(headers)) == "malformed"


BASE64_SPELLINGS: dict[str, Callable[[str], str]] = {
    "no padding": lambda text: text.removesuffix("="),
    "more padding": lambda text: text + "=",
    "line end inside": lambda text: text.replace("v1,", "v1,\n"),
    "bits beyond 32 bytes": lambda text: text[:-2] + chr(ord(text[-2]) + 1) + "=",
    "v1a": lambda text: text.replace("v1,", "v1a,"),
    "v2": lambda text: text.replace("v1,", "v2,"),
    "V1": lambda text: text.replace("v1,", "V1,"),
    "no comma": lambda text: text.replace("v1,", "v1"),
    "version twice": lambda text: text.replace("v1,", "v1,v1,"),
    "no version": lambda text: text[3:],
    "hex": lambda text: "v1," + base64.b64decode(text[3:]).hex(),
    "base85": lambda text: "v1," + base64.b85encode(base64.b64decode(text[3:])).decode(),
    "tab between": lambda text: f"{text}\t{text}",
    "junk of that length": lambda text: "v1," + "\xff" * 22,
}


@pytest.mark.parametrize("spell", BASE64_SPELLINGS.values(), ids=BASE64_SPELLINGS)
def test_base64_is_strict_and_versions_ignored(
    spell: Callable[[str], str],
) -> None:
    headers = standard_headers(MESSAGE_ID, str(NOW), spell(sign_standard(RUN_BODY)))
    assert reason(lambda: check_standard(headers)) == "malformed"


def test_the_url_safe_alphabet_is_refused() -> None:
    key = prepare(STANDARD_WEBHOOKS, PARALLEL_A)
    timestamp = next(
        str(NOW + n) for n in range(99) if "+" in sign_standard(b"", timestamp=str(NOW + n))
    )
    signature = sign_standard(b"", timestamp=timestamp).replace("+", "-")
    headers = standard_headers(MESSAGE_ID, timestamp, signature)
    call = lambda: verify(STANDARD_WEBHOOKS, key, headers, b"", now=NOW)  # noqa: E731
    assert reason(call) == "malformed"


def test_other_versions_stand_beside_ours() -> None:
    signature = f"v1a,x  v2,{'A' * 44} {sign_standard(b'other')} {sign_standard(RUN_BODY)}"
    assert check_standard(standard_headers(MESSAGE_ID, str(NOW), signature))


def test_entries_and_the_header_are_bounded() -> None:
    wrong, right = sign_standard(b"other"), sign_standard(RUN_BODY)
    last = " ".join([wrong] * (MAX_ENTRIES - 1) + [right])
    assert check_standard(standard_headers(MESSAGE_ID, str(NOW), last))
    headers = standard_headers(MESSAGE_ID, str(NOW), f"{wrong} {last}")
    assert reason(lambda: check_standard(headers)) == "mismatch"
    headers = standard_headers(MESSAGE_ID, str(NOW), right + " " * MAX_SIGNATURE_HEADER)
    assert reason(lambda: check_standard(headers)) == "malformed"


def test_foreign_entries_do_not_use_bound() -> None:
    signature = "v1,x " * 20 + sign_standard(RUN_BODY)
    assert check_standard(standard_headers(MESSAGE_ID, str(NOW), signature))


def test_keys_are_bounded_and_none_refuses() -> None:
    wrong = prepare(TIMESTAMP_BODY, TASK_SECRET)
    right = prepare(TIMESTAMP_BODY, VALYU_SECRET)
    headers = valyu_headers(str(NOW), sign_valyu(b"{}"))

    def check(keys: tuple[Key, ...]) -> Match:
        return verify(TIMESTAMP_BODY, keys, headers, b"{}", now=NOW)

    assert check(wrong * (MAX_KEYS - 1) + right).key is right[0]
    assert check(right + prepare(TIMESTAMP_BODY, VALYU_SECRET)).key is right[0]
    assert reason(lambda: check(wrong * MAX_KEYS + right)) == "mismatch"
    assert reason(lambda: check(())) == "mismatch"


def test_every_key_is_tried_whichever_matches() -> None:
    class Counting(Key):
        calls = 0

        def mac(self, head: bytes, body: bytes) -> bytes:
            Counting.calls += 1
            return super().mac(head, body)

    keys = [Counting(text.encode(), reading="text") for text in (VALYU_SECRET, TASK_SECRET)]
    headers = valyu_headers(str(NOW), sign_valyu(b"{}"))
    assert verify(TIMESTAMP_BODY, keys, headers, b"{}", now=NOW).key is keys[0]
    assert verify(TIMESTAMP_BODY, keys[::-1], headers, b"{}", now=NOW).key is keys[0]
    assert Counting.calls == 4


@pytest.mark.parametrize(
    "message_id", ["a b", "a.b", ".", "a\x00", "a\x7f", "\xe9", "i" * 257, " "]
)
def test_id_is_short_printable_without_separator(message_id: str) -> None:
    headers = standard_headers(message_id, str(NOW), sign_standard(RUN_BODY, message_id))
    assert reason(lambda: check_standard(headers)) == "malformed"


def test_signed_bytes_cannot_yield_another_id() -> None:
    """Spec: ids must not "include any `.` to prevent certain attacks"."""
    signature = sign_standard(b"5.{}", "evt", str(NOW))
    assert check_standard(standard_headers("evt", str(NOW), signature), b"5.{}")
    moved = standard_headers(f"evt.{NOW}", "5", signature)
    assert reason(lambda: check_standard(moved, b"{}", now=5)) == "malformed"


def test_schemes_refuse_each_other_s_deliveries() -> None:
    headers = valyu_headers(str(NOW), sign_valyu(RUN_BODY))
    assert reason(lambda: check_standard(headers)) == "missing"


# Totality: arbitrary bytes everywhere.

wires = st.binary(max_size=80)
names = st.sampled_from(
    [
        name
        for s in SCHEMES.values()
        for name in (s.signature_header, s.timestamp_header, b"webhook-id")
    ]
)
values = (
    wires
    | st.from_regex(rb"\A(sha256=[0-9a-f]{64}|v1,[A-Za-z0-9+/]{43}=)( v1a?,.{0,44})*\Z")
    | st.integers(0, 10**14).map(lambda number: str(number).encode())
)
schemes = st.sampled_from([*SCHEMES.values()]) | st.builds(
    lambda template, prefix, encoding: replace(
        STANDARD_WEBHOOKS,
        template=template,
        prefix=prefix,
        encoding=encoding,
        id_header=b"webhook-id" if "{id}" in template else None,
    ),
    st.sampled_from(
        ["{id}.{timestamp}.{body}", "v0:{timestamp}:{body}", "{timestamp}\n{id}/{body}"]
    ),
    st.sampled_from([b"", b"v1,", b"sha256="]),
    st.sampled_from(["hex", "base64"]),
)


@given(
    scheme=schemes,
    keys=st.lists(st.binary().map(lambda key: Key(key, reading="text")), max_size=3),
    headers=st.lists(st.tuples(names | wires, values), max_size=6),
    body=st.binary(),
    now=st.floats(),
)
def test_verify_is_total(
    scheme: Scheme, keys: list[Key], headers: Headers, body: bytes, now: float
) -> None:
    with pytest.raises(SignatureError) as caught:
        verify(scheme, keys, headers, body, now=now)
    assert caught.value.reason in {"missing", "malformed", "stale", "mismatch"}


@given(
    data=st.data(),
    where=st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", ""]),
)
def test_any_changed_byte_is_refused(data: Any, where: str) -> None:
    headers = dict(standard_headers(MESSAGE_ID, str(NOW), sign_standard(RUN_BODY)))
    target = headers[where.encode()] if where else RUN_BODY
    place = data.draw(st.integers(0, len(target) - 1))
    flipped = target[place] ^ data.draw(st.integers(1, 255))
    changed = target[:place] + bytes([flipped]) + target[place + 1 :]
    if where:
        headers[where.encode()] = changed
    body = RUN_BODY if where else changed
    assert reason(lambda: check_standard([*headers.items()], body)) in {"malformed", "mismatch"}


@given(place=st.integers(0), bit=st.integers(0, 7), where=st.integers(0, 2))
def test_any_flipped_bit_is_refused(place: int, bit: int, where: int) -> None:
    parts = [str(NOW).encode(), sign_valyu(BATCH_BODY).encode(), BATCH_BODY]
    place %= len(parts[where])
    part = bytearray(parts[where])
    part[place] ^= 1 << bit
    parts[where] = bytes(part)
    timestamp, signature, body = parts
    headers = valyu_headers(timestamp, signature)
    assert reason(lambda: check_valyu(headers, body)) in {"malformed", "mismatch"}


def test_unpadded_secret_read_like_standardwebhooks() -> None:
    secret = "whsec_" + base64.b64encode(b"twenty-five bytes in here").decode().rstrip("=")
    signature = standardwebhooks.Webhook(secret).sign("m", datetime.fromtimestamp(NOW, UTC), "{}")
    keys = prepare(STANDARD_WEBHOOKS, secret)
    assert verify(
        STANDARD_WEBHOOKS, keys, standard_headers("m", str(NOW), signature), b"{}", now=NOW
    )
