"""The meaning of an answer, whoever sends it."""

from typing import Any

import pytest

from receiver.errors import (
    FetchError,
    Forbidden,
    Missing,
    NotReady,
    RateLimited,
    Refused,
    SourceRefused,
    Unavailable,
    Unreadable,
)
from receiver.providers import responses
from receiver.providers.base import Provider
from receiver.providers.model import Answer
from receiver.providers.parallel.provider import Parallel
from receiver.providers.parallel_v0.provider import ParallelV0
from receiver.providers.valyu.provider import Valyu

NOW = 1791191172.0
PROVIDERS: list[Provider] = [Valyu(), Parallel(), ParallelV0()]
JSON: Any = {"error": {"message": "because"}}

COMMON: list[tuple[int, Any, type[FetchError]]] = [
    (200, None, Unreadable),
    (204, None, Unreadable),
    (301, JSON, Unavailable),
    (400, JSON, Refused),
    (400, None, Unavailable),
    (401, JSON, SourceRefused),
    (402, JSON, SourceRefused),
    (403, JSON, Forbidden),
    (403, None, Unavailable),
    (404, JSON, Missing),
    (408, JSON, Unavailable),
    (409, JSON, NotReady),
    (410, JSON, Missing),
    (410, None, Missing),
    (422, JSON, Refused),
    (425, JSON, NotReady),
    (429, JSON, RateLimited),
    (500, JSON, Unavailable),
    (502, None, Unavailable),
    (503, JSON, Unavailable),
]


def judged(provider: Provider, status: int, data: Any, **headers: str) -> FetchError:
    with pytest.raises(FetchError) as raised:
        provider.judge(Answer(status, headers, data), now=NOW)
    return raised.value


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
@pytest.mark.parametrize(("status", "data", "kind"), COMMON)
def test_senders_agree_on_most_statuses(
    provider: Provider, status: int, data: Any, kind: type[FetchError]
) -> None:
    assert type(judged(provider, status, data)) is kind


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
def test_408_of_a_waiting_call_means_not_ready(
    provider: Provider,
) -> None:
    with pytest.raises(NotReady):
        provider.judge(Answer(408, {}, JSON, waited=True), now=NOW)


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
@pytest.mark.parametrize("data", [{}, []])
def test_json_success_is_usable(provider: Provider, data: Any) -> None:
    for status in (200, 201, 202):
        provider.judge(Answer(status, {}, data), now=NOW)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"error": {"ref_id": "x", "message": "Run failed"}, "type": "error"}, ": Run failed"),
        ({"error": "plain"}, ": plain"),
        ({"detail": "Not Found"}, ": Not Found"),
        ({"detail": [{"loc": ["a"], "msg": "one"}, {"msg": "two"}]}, ": one; two"),
        ({"message": "m", "error": "e"}, ": m"),
        ({"message": "", "error": "e"}, ": e"),
        ({"error": {"code": 5}}, ": {'code': 5}"),
        (["one", "two"], ": one; two"),
        ([*"abcdef"], ": a; b; c; d; e"),
        ("text", ", which is no JSON: text"),
        (5, ", which is no JSON"),
        (None, ", which is no JSON"),
        ({"error": {"error": {"error": {}}}}, ": {'error': {}}"),
    ],
)
def test_sender_s_words_are_found_at_any_depth(data: Any, words: str) -> None:
    assert responses.described(Answer(400, {}, data)) == f"the sender answered 400{words}"


def test_every_error_has_its_retry_after() -> None:
    assert judged(Parallel(), 503, None, **{"retry-after": "7"}).retry_after == 7.0
    assert judged(Parallel(), 429, {"retry_after": 9}).retry_after == 9.0


@pytest.mark.parametrize("value", ["../x", "a/b", "a?b#c", "é", "a b"])
def test_id_is_one_path_segment(value: str) -> None:
    quoted = responses.part(value)
    assert not set(quoted) & set("/?# é")
