"""Endpoints come from memory, changes are felt soon, strangers' guesses cost little."""

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event

import storage
from receiver.intake import endpoint_cache
from receiver.intake.endpoint_cache import CachedEndpoint, EndpointCache, SecretKeys
from receiver.signatures.verify import Key
from receiver.sources import configured
from storage import CannotStore, EndpointView, SigningSecret, Store
from tests import databases
from tests.receiver.conftest import (
    BATCH,
    DEADLINE,
    OTHER_SECRET,
    SECRET,
    SOON,
    add_endpoint,
    broken,
    settings,
    until,
)

UNKNOWN = "A" * 22
READS = re.compile(r"FROM (\w+\.)?endpoints")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def reads() -> Iterator[list[str]]:
    """The endpoints' statements that reach the database from now on."""
    seen: list[str] = []

    def see(*args: object) -> None:
        statement = str(args[2])
        if READS.search(statement):
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", see)
    yield seen
    event.remove(Engine, "before_cursor_execute", see)


@pytest.fixture
async def cache(store: Store) -> AsyncIterator[EndpointCache]:
    """The cache of a serving process, following what others change."""
    cache = EndpointCache(store, configured(settings(signing={"readings": ["text", "hex"]})))
    following = asyncio.create_task(cache.follow())
    yield cache
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def found(cache: EndpointCache, endpoint_id: str) -> CachedEndpoint:
    endpoint = await cache.find(endpoint_id)
    assert endpoint is not None
    return endpoint


async def settled(cache: EndpointCache) -> None:
    """Wait until the cache has seen the last change: what it reads from now on stays."""
    while cache._revision != cache._store.endpoints.revision():
        await asyncio.sleep(0.01)


async def in_memory(cache: EndpointCache, endpoint_id: str) -> CachedEndpoint:
    """The endpoint, cached to stay."""
    await settled(cache)
    endpoint = await found(cache, endpoint_id)
    assert cache.cached(endpoint_id) is endpoint
    return endpoint


async def test_an_endpoint_is_read_once(
    store: Store, cache: EndpointCache, reads: list[str]
) -> None:
    endpoint_id = add_endpoint(store)
    first = await in_memory(cache, endpoint_id)
    reads.clear()
    assert await found(cache, endpoint_id) is first
    assert (first.view.resource, reads) == (BATCH, [])


async def test_concurrent_lookups_share_few_reads(
    store: Store, cache: EndpointCache, reads: list[str]
) -> None:
    endpoint_id = add_endpoint(store)
    await settled(cache)
    reads.clear()
    await asyncio.gather(*[found(cache, endpoint_id) for _ in range(200)])
    assert len(reads) <= endpoint_cache.READS_AT_ONCE


async def test_unknown_id_costs_one_read(cache: EndpointCache, reads: list[str]) -> None:
    assert await cache.find(UNKNOWN) is None
    assert len(reads) == 1
    assert re.search(r"WHERE \S*endpoints\.id = \S+\s*(LIMIT|$)", reads[0])


@given(st.text().filter(lambda text: len(text) != 22) | st.sampled_from(["/" * 22, UNKNOWN + "\n"]))
async def test_impossible_id_costs_no_read(endpoint_id: str) -> None:
    cache = EndpointCache.__new__(EndpointCache)  # without a store, any read would fail
    cache._cached = {}
    assert await cache.find(endpoint_id) is None


def closed(other: Store, endpoint_id: str) -> Callable[[CachedEndpoint], bool]:
    other.endpoints.close(endpoint_id)
    return lambda endpoint: endpoint.view.state == "closed"


def rotated(other: Store, endpoint_id: str) -> Callable[[CachedEndpoint], bool]:
    other.endpoints.set_secret(endpoint_id, OTHER_SECRET)
    return lambda endpoint: (
        [keys.secret.text for keys in endpoint.secrets]
        == [
            OTHER_SECRET,
            SECRET,
        ]
    )


def bound(other: Store, endpoint_id: str) -> Callable[[CachedEndpoint], bool]:
    other.endpoints.bind(endpoint_id, BATCH)
    return lambda endpoint: endpoint.view.resource == BATCH


@pytest.mark.parametrize("change", [closed, rotated, bound])
async def test_foreign_change_felt_within_two_seconds(
    store: Store,
    database_url: str,
    cache: EndpointCache,
    change: Callable[[Store, str], Callable[[CachedEndpoint], bool]],
) -> None:
    endpoint_id = add_endpoint(store, None)
    await in_memory(cache, endpoint_id)
    with databases.opened(database_url) as other:
        shows = change(other, endpoint_id)
    began = time.monotonic()
    while not shows(await found(cache, endpoint_id)):
        assert time.monotonic() - began < SOON
        await asyncio.sleep(0.05)


async def test_endpoint_of_unconfigured_source_is_unknown(
    store: Store, cache: EndpointCache
) -> None:
    assert await cache.find(store.endpoints.add("elsewhere", "batch")) is None


async def test_matched_reading_first_and_others_stay(store: Store, cache: EndpointCache) -> None:
    endpoint_id = add_endpoint(store)
    endpoint = await in_memory(cache, endpoint_id)
    text, hexed = endpoint.keys(NOON.timestamp())
    news = cache.remember(endpoint, hexed)
    assert news is not None
    assert news.reading == "hex"
    assert (await found(cache, endpoint_id)).keys(NOON.timestamp()) == (hexed, text)
    assert cache.remember(await found(cache, endpoint_id), hexed) is None


async def test_remembered_reading_is_first_after_restart(store: Store) -> None:
    endpoint_id = add_endpoint(store)
    sources = configured(settings(signing={"readings": ["text", "hex"]}))
    endpoint = await found(EndpointCache(store, sources), endpoint_id)
    store.endpoints.remember_reading(endpoint.secrets[0].secret.id, "hex")
    again = await found(EndpointCache(store, sources), endpoint_id)
    assert [key.reading for key in again.keys(NOON.timestamp())] == ["hex", "text"]


async def test_remembering_reading_revives_no_closed_endpoint(
    store: Store, cache: EndpointCache
) -> None:
    endpoint_id = add_endpoint(store)
    endpoint = await in_memory(cache, endpoint_id)  # a delivery begins, its body takes a while
    store.endpoints.close(endpoint_id)
    while cache.cached(endpoint_id) is not None:
        await asyncio.sleep(0.05)
    cache.remember(endpoint, endpoint.keys(NOON.timestamp())[1])
    assert (await found(cache, endpoint_id)).view.state == "closed"


async def test_read_overtaken_by_close_is_not_kept(
    store: Store, cache: EndpointCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_cache, "READ_SECONDS", DEADLINE)
    endpoint_id = add_endpoint(store)
    await settled(cache)
    has_read, go_on = threading.Event(), threading.Event()

    def hang(*args: object) -> None:
        if READS.search(str(args[2])) and not has_read.is_set():
            has_read.set()
            go_on.wait(DEADLINE)

    event.listen(Engine, "after_cursor_execute", hang)
    try:
        reading = asyncio.create_task(cache.find(endpoint_id))
        await until(has_read.is_set)
        store.endpoints.close(endpoint_id)
        await settled(cache)
        go_on.set()
        overtaken = await reading
    finally:
        go_on.set()
        event.remove(Engine, "after_cursor_execute", hang)
    assert overtaken is not None
    assert overtaken.view.state == "open"
    assert cache.cached(endpoint_id) is None
    assert (await found(cache, endpoint_id)).view.state == "closed"


async def test_memory_is_bounded_and_reread(
    store: Store, cache: EndpointCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_cache, "MAX_CACHED", 3)
    ids = [add_endpoint(store) for _ in range(8)]
    await settled(cache)
    for endpoint_id in ids * 2:
        assert (await found(cache, endpoint_id)).view.id == endpoint_id
        assert sum(cache.cached(each) is not None for each in ids) <= 3


async def test_misfit_secret_is_our_fault(
    store: Store,
) -> None:
    endpoint_id = add_endpoint(store, secret="not-hex-but-long-enough")  # noqa: S106
    cache = EndpointCache(store, configured(settings(signing={"readings": ["hex"]})))
    with pytest.raises(CannotStore, match="can be used") as caught:
        await cache.find(endpoint_id)
    assert "not-hex" not in str(caught.value)
    store.endpoints.set_secret(endpoint_id, SECRET)
    assert len((await found(cache, endpoint_id)).secrets) == 1


async def test_account_keys_serve_where_endpoint_secrets_cannot(store: Store) -> None:
    endpoint_id = add_endpoint(store, secret="not-hex-but-long-enough")  # noqa: S106
    given = settings(signing={"readings": ["hex"]}, signing_secrets=[SECRET])
    sources = configured(given)
    endpoint = await found(EndpointCache(store, sources), endpoint_id)
    keys = endpoint_cache.keys_for(sources["valyu"], endpoint, NOON.timestamp())
    assert list(keys) == list(sources["valyu"].account_keys)


async def test_unreadable_database_is_no_unknown_endpoint(store: Store) -> None:
    cache = EndpointCache(store, configured(settings()))
    with broken(store, "endpoints"), pytest.raises(CannotStore):
        await cache.find(UNKNOWN)


async def test_secret_under_newer_key_is_our_fault(store: Store, database_url: str) -> None:
    endpoint_id = add_endpoint(store)
    old = databases.key(store)
    with closing(storage.open(database_url, [storage.new_key(), old])) as other:
        other.endpoints.set_secret(endpoint_id, OTHER_SECRET)
    cache = EndpointCache(store, configured(settings()))
    with pytest.raises(CannotStore, match="start it again with that key"):
        await cache.find(endpoint_id)
    with pytest.raises(CannotStore, match="start it again with that key"):
        await cache.find_by_resource("valyu", BATCH)


async def test_waiting_to_read_counts_into_deadline(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_cache, "READ_SECONDS", 1.0)
    cache = EndpointCache(store, configured(settings()))
    go_on = threading.Event()

    def hang(*args: object) -> None:
        if READS.search(str(args[2])):
            go_on.wait(DEADLINE)

    event.listen(Engine, "before_cursor_execute", hang)
    try:
        crowd = endpoint_cache.READS_AT_ONCE * 3
        refused = await asyncio.gather(
            *(cache.find(UNKNOWN) for _ in range(crowd)), return_exceptions=True
        )
        assert {type(each) for each in refused} == {CannotStore}
    finally:
        go_on.set()
        event.remove(Engine, "before_cursor_execute", hang)


async def test_following_survives_an_unreadable_database(
    store: Store, cache: EndpointCache
) -> None:
    endpoint_id = add_endpoint(store)
    with broken(store, "meta"):
        await asyncio.sleep(endpoint_cache.LOOK_SECONDS * 1.2)
    await in_memory(cache, endpoint_id)
    store.endpoints.close(endpoint_id)
    while (await found(cache, endpoint_id)).view.state != "closed":
        await asyncio.sleep(0.05)


def test_secret_is_tried_until_its_end() -> None:
    hour = timedelta(hours=1)
    secret = SigningSecret(1, SECRET, NOON, NOON + hour, None)
    keys = SecretKeys(secret, ())
    moments = [NOON - hour, NOON, NOON + hour / 2, NOON + hour]
    assert [keys.valid_at(moment) for moment in moments] == [True, True, True, False]
    assert SecretKeys(replace(secret, valid_until=None), ()).valid_at(NOON + 1000 * hour)


async def test_ended_secret_yields_to_its_successor(store: Store) -> None:
    endpoint = await found(
        EndpointCache(store, configured(settings())), add_endpoint(store, secret=SECRET)
    )
    new, old = (Key(b"k" * 16, reading="text", secret_id=number) for number in (2, 1))
    ended = SigningSecret(1, SECRET, NOON, NOON + timedelta(hours=1), None)
    spans = (SecretKeys(replace(ended, id=2, valid_until=None), (new,)), SecretKeys(ended, (old,)))
    changed = replace(endpoint, secrets=spans, endless_keys=None)
    assert list(changed.keys(NOON.timestamp())) == [new, old]
    assert list(changed.keys((NOON + timedelta(hours=2)).timestamp())) == [new]


@pytest.mark.parametrize("valid_until", [None, NOON + timedelta(hours=1)])
def test_secrets_tried_are_bounded(valid_until: datetime | None) -> None:
    source, count = configured(settings())["valyu"], storage.MAX_SECRETS + 1
    secrets = tuple(
        SigningSecret(number, f"{number}-{SECRET}", NOON, valid_until, None)
        for number in range(count, 0, -1)
    )
    view = EndpointView("ep", "valyu", "batch", BATCH, "open", NOON, secrets)
    keys = endpoint_cache.with_keys(view, source).keys(NOON.timestamp())
    assert [key.secret_id for key in keys] == [*range(count, 1, -1)]


async def test_no_repr_shows_a_secret(store: Store) -> None:
    endpoint = await found(EndpointCache(store, configured(settings())), add_endpoint(store))
    assert SECRET not in repr(endpoint)
