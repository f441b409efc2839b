"""The endpoints of contents jobs; contracts/valyu.md, section 1.5."""

import secrets

from starlette.requests import Request
from starlette.responses import Response

from receiver.sandbox.answers import answer, json_body
from receiver.sandbox.valyu import contents
from receiver.sandbox.valyu.requests import CreateContents, origin_of, read
from receiver.sandbox.world import World


async def create(world: World, request: Request) -> Response:
    """POST /contents: a job if async (the SDK knows it by the 202), else the contents at once."""
    wanted = read(CreateContents, await json_body(request))
    if not wanted.run_async:
        return _at_once(world, wanted.urls)
    job = world.valyu.contents.create(wanted)
    shown = contents.created(job, origin_of(request))
    world.valyu.contents.start(job)
    return answer(shown, 202)


def _at_once(world: World, urls: list[str]) -> Response:
    failing = world.valyu.contents.failing(urls)
    results = contents.results(urls, failing, world.switches)
    failed = len([each for each in results if each["status"] == "failed"])
    shown = {
        "success": failed < len(urls),
        "error": None if failed < len(urls) else "No URL could be read",
        "tx_id": f"tx_{secrets.token_hex(8)}",
        "urls_requested": len(urls),
        "urls_processed": len(urls) - failed,
        "urls_failed": failed,
        "results": results,
        "total_cost_dollars": (len(urls) - failed) * contents.PRICE,
        "total_characters": sum(each.get("length", 0) for each in results),
    }
    return answer(shown, 200 if failed < len(urls) else 422)


async def status(world: World, request: Request) -> Response:
    """GET /contents/jobs/{job_id}."""
    job = world.valyu.contents.job(request.path_params["job_id"])
    return answer(contents.view(job, world.switches))
