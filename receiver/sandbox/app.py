"""The sandbox as an ASGI application; `server` runs it, on this machine only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from receiver.sandbox import control, valyu
from receiver.sandbox.answers import Refusal, refused
from receiver.sandbox.switches import Switches
from receiver.sandbox.world import World


class State(TypedDict):
    """What the lifespan hands to the requests."""

    world: World


def create_sandbox(switches: Switches | None = None) -> Starlette:
    """The simulated sender, with the switches it starts with; it keeps nothing on disk.

    Faults that cut connections need the server in `receiver.sandbox.server`.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        world = World(switches or Switches())
        try:
            yield {"world": world}
        finally:
            await world.close()

    return Starlette(
        routes=[*valyu.routes(), *control.routes()],
        lifespan=lifespan,
        exception_handlers={Refusal: refused, HTTPException: refused},
    )
