"""Do nothing: a Starlette endpoint that reads the body and answers, as users write it."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def receive(request: Request) -> JSONResponse:
    """Read the body and answer 200."""
    await request.body()
    return JSONResponse({"status": "accepted"})


app = Starlette(routes=[Route("/webhooks/{source}/{endpoint}", receive, methods=["POST"])])
