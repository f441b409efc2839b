"""Bodies are read whole or refused, while they stream; what is in flight is bounded."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.intake.request_body import Bodies, BodyRefused, ClientGone, Receive

KIB = 1024
GONE = {"type": "http.disconnect"}


def wire(*chunks: bytes | dict[str, Any], wait: float = 0) -> Receive:
    """The messages of a server: chunks of a body, each after `wait` seconds; or a disconnect."""
    left = list(chunks)

    async def receive() -> Any:
        await asyncio.sleep(wait)
        chunk = left.pop(0)
        if isinstance(chunk, dict):
            return chunk
        return {"type": "http.request", "body": chunk, "more_body": bool(left)}

    return receive


async def read(bodies: Bodies, receive: Receive, declared: int | None = None) -> bytes:
    return await bodies.read(receive, limit=KIB, declared=declared)


async def nothing_counts(bodies: Bodies) -> bool:
    """Return True while everything that may be in flight still may."""
    return len(await read(bodies, wire(b"x" * 512, b"x" * 512))) == KIB


@pytest.mark.parametrize("chunks", [(b"",), (b"abc",), (b"a", b"", b"bc"), (b"x" * KIB,)])
async def test_body_arrives_unchanged(chunks: tuple[bytes, ...]) -> None:
    assert await read(Bodies(KIB), wire(*chunks)) == b"".join(chunks)


async def test_too_large_declared_body_is_unread() -> None:
    with pytest.raises(BodyRefused, match="too large"):
        await read(Bodies(KIB), wire(), declared=KIB + 1)


@pytest.mark.parametrize("declared", [None, 3])
@pytest.mark.parametrize("chunks", [(b"x" * (KIB + 1),), (b"x" * KIB, b"x"), (b"x",) * (KIB + 1)])
async def test_body_over_limit_is_never_cut(
    chunks: tuple[bytes, ...], declared: int | None
) -> None:
    bodies = Bodies(KIB * 4)
    with pytest.raises(BodyRefused, match="too large"):
        await read(bodies, wire(*chunks), declared)
    assert await nothing_counts(bodies)


async def test_body_that_never_begins_is_refused() -> None:
    with pytest.raises(BodyRefused, match="timeout"):
        await read(Bodies(KIB, seconds=0.02), wire(b"late", wait=5))


@pytest.mark.parametrize(("wait", "chunks"), [(0.02, 40), (0.15, 2)])
async def test_deadline_covers_a_trickled_body(wait: float, chunks: int) -> None:
    bodies = Bodies(KIB, seconds=0.2)
    with pytest.raises(BodyRefused, match="timeout"):
        await read(bodies, wire(*[b"x"] * chunks, wait=wait))
    assert await nothing_counts(bodies)


@pytest.mark.parametrize("chunks", [(GONE,), (b"x", GONE)])
async def test_departed_sender_gets_no_answer(chunks: tuple[Any, ...]) -> None:
    bodies = Bodies(KIB)
    with pytest.raises(ClientGone):
        await read(bodies, wire(*chunks))
    assert await nothing_counts(bodies)


async def test_bodies_count_until_released() -> None:
    bodies = Bodies(KIB)
    body = await read(bodies, wire(b"x" * 600))
    with pytest.raises(BodyRefused, match="overloaded"):
        await read(bodies, wire(b"x" * 600))
    with pytest.raises(BodyRefused, match="overloaded"):
        await read(bodies, wire(b"x" * 300, b"x" * 300))
    bodies.release(body)
    assert await nothing_counts(bodies)


async def test_whole_body_counts_too() -> None:
    bodies = Bodies(KIB)
    body = b"x" * 600
    assert not bodies.hold(body, limit=599)
    assert bodies.hold(body, limit=KIB)
    assert not bodies.hold(body, limit=KIB)
    bodies.release(body)
    assert await nothing_counts(bodies)


@given(st.lists(st.lists(st.integers(0, 700), min_size=1, max_size=4), max_size=20))
async def test_everything_released_counts_nothing(bodies_: list[list[int]]) -> None:
    bodies, kept = Bodies(2 * KIB), []
    for sizes in bodies_:
        try:
            kept.append(await read(bodies, wire(*(b"x" * size for size in sizes))))
        except BodyRefused:
            continue
    assert sum(map(len, kept)) <= 2 * KIB
    for body in kept:
        bodies.release(body)
    assert await bodies.read(wire(b"x" * 2 * KIB), limit=2 * KIB, declared=None)
