"""Endpoints of contents; contracts/valyu.md, section 1.5."""

import secrets

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox.responses import json_body, json_response
from receiver.sandbox.valyu import contents_jobs
from receiver.sandbox.valyu.requests import CreateContents, origin_of, read
from receiver.sandbox.world import World


async def create(world: World, request: Request) -> Response:
    """POST /contents: a job if `async` (the SDK knows it by the 202), else the contents."""
    wanted = read(CreateContents, await json_body(request))
    if not wanted.run_async:
        return _contents(world, wanted.urls)
    job = world.valyu.jobs.create(wanted)
    shown = contents_jobs.created(job, origin_of(request))
    world.valyu.jobs.start(job)
    return json_response(shown, 202)


def _contents(world: World, urls: list[str]) -> Response:
    failing = world.valyu.jobs.failing(urls)
    results = contents_jobs.results(urls, failing, world.switches)
    failed = len([each for each in results if each["status"] == "failed"])
    shown = {
        "success": failed < len(urls),
        "error": None if failed < len(urls) else "No URL could be read",
        "tx_id": f"tx_{secrets.token_hex(8)}",
        "urls_requested": len(urls),
        "urls_processed": len(urls) - failed,
        "urls_failed": failed,
        "results": results,
        "total_cost_dollars": (len(urls) - failed) * contents_jobs.PRICE,
        "total_characters": sum(each.get("length", 0) for each in results),
    }
    return json_response(shown, 200 if failed < len(urls) else 422)


async def status(world: World, request: Request) -> Response:
    """GET /contents/jobs/{job_id}."""
    job = world.valyu.jobs.job(request.path_params["job_id"])
    return json_response(contents_jobs.view(job, world.switches))
