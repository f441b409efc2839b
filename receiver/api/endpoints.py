"""Registration by program: endpoints made, given their secret, shown, closed."""

from typing import Any

from starlette.responses import Response

from receiver.api.answers import Problem, answer
from receiver.api.asked import Asked
from receiver.logs import get_logger
from receiver.signatures import prepare
from receiver.sources import Source, webhook_url
from storage import EndpointView, NotFound

log = get_logger("api")


async def add(asked: Asked) -> Response:
    """Make an endpoint; its secret is pending unless given."""
    optional = ("resource", "task_id", "secret")
    fields = await asked.fields("source", "kind", optional=optional)
    source = _source(asked, asked.source(fields["source"]) or "")
    kind = fields["kind"] or ""
    if kind not in source.provider.kinds:
        kinds = " or ".join(sorted(source.provider.kinds))
        raise Problem(422, f"Source {source.name} announces no such kind: use {kinds}.")
    _refuse_unusable(source, fields["secret"])
    given = {name: fields[name] for name in optional}
    store = asked.desk.store
    endpoint_id = await asked.desk.ask(store.add_endpoint, source.name, kind, **given)
    log.info("endpoint made", endpoint=endpoint_id, source=source.name, by=asked.token.id)
    return await show(asked, endpoint_id, status=201)


async def show(asked: Asked, endpoint_id: str | None = None, *, status: int = 200) -> Response:
    """The endpoint as it is now."""
    view = await _mine(asked, endpoint_id)
    path = f"/webhooks/{view.source}/{view.id}"
    public = asked.desk.public_url
    shown: dict[str, Any] = {
        "endpoint": view.id,
        "path": path,
        "url": webhook_url(public, view.source, view.id) if public else None,
        "source": view.source,
        "kind": view.kind,
        "resource": view.resource,
        "task_id": view.task_id,
        "state": view.state,
    }
    return answer(shown, status)


async def set_secret(asked: Asked) -> Response:
    """Register the signing secret, and what the endpoint is for; the same again changes nothing."""
    view = await _open(asked)
    fields = await asked.fields("secret", optional=("resource", "task_id"))
    secret, task_id = fields["secret"] or "", fields["task_id"]
    _refuse_unusable(_source(asked, view.source), secret)
    resource = fields["resource"] or view.resource
    if task_id is not None and resource is None:
        raise Problem(422, "The field resource is missing: send it, for task_id is where it lives.")
    store = asked.desk.store
    try:
        await asked.desk.ask(store.set_secret, view.id, secret, resource=resource, task_id=task_id)
    except NotFound:
        await _open(asked)  # closed meanwhile?
        raise Problem(
            409, f"Endpoint {view.id} is bound to another resource: make one for this resource."
        ) from None
    log.info("secret set", endpoint=view.id, source=view.source, by=asked.token.id)
    return await show(asked)


async def close(asked: Asked) -> Response:
    """Answer 404 to the sender from now on; what was acknowledged stays."""
    view = await _mine(asked)
    if view.state != "closed":
        try:
            await asked.desk.ask(asked.desk.store.close_endpoint, view.id)
        except NotFound:  # somebody else was quicker
            return Response(status_code=204)
        log.info("endpoint closed", endpoint=view.id, source=view.source, by=asked.token.id)
    return Response(status_code=204)


async def _mine(asked: Asked, endpoint_id: str | None = None) -> EndpointView:
    """The endpoint that is asked for; another source's is as unknown as one that never was."""
    wanted = endpoint_id or asked.params["endpoint_id"]
    view = await asked.desk.ask(asked.desk.store.find_endpoint, wanted)
    if view is None or asked.token.source not in (None, view.source):
        raise _unknown()
    return view


async def _open(asked: Asked) -> EndpointView:
    view = await _mine(asked)
    if view.state == "closed":
        raise _unknown()
    return view


def _unknown() -> Problem:
    return Problem(
        404, "There is no such open endpoint: look at its id, or make one with POST /endpoints."
    )


def _source(asked: Asked, name: str) -> Source:
    sources = asked.desk.sources
    if name not in sources:
        there = ", ".join(sorted(sources)) or "none"
        raise Problem(422, f"There is no source {name!r} (configured: {there}): name one of those.")
    return sources[name]


def _refuse_unusable(source: Source, secret: str | None) -> None:
    """A secret that can never verify fails here, not as a wall of refused deliveries."""
    if secret is None:
        return
    try:
        prepare(source.scheme, secret)
    except ValueError as error:
        raise Problem(422, f"The secret was not registered: {error}.") from None
