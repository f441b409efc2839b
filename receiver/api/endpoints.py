"""Registration by program: endpoints made, given their secret, shown, closed."""

from typing import Any

from starlette.responses import Response

from receiver.api.requests import ApiRequest
from receiver.api.responses import Problem, answer
from receiver.signatures.verify import doubt, prepare
from receiver.sources import Source, webhook_url
from receiver.telemetry.logs import get_logger
from storage import EndpointView, NotFound, SecretRefused

log = get_logger("api")


async def add(asked: ApiRequest) -> Response:
    """Make an endpoint; its secret is pending unless given."""
    optional = ("resource", "task_id", "secret")
    fields = await asked.fields("source", "kind", optional=optional)
    source = _source(asked, asked.source(fields["source"]) or "")
    kind = fields["kind"] or ""
    if kind not in source.provider.kinds:
        kinds = " or ".join(sorted(source.provider.kinds))
        raise Problem(422, f"Source {source.name} announces no such kind: use {kinds}.")
    odd = _usable(source, fields["secret"])
    given = {name: fields[name] for name in optional}
    store = asked.desk.store
    endpoint_id = await asked.desk.ask(store.endpoints.add, source.name, kind, **given)
    log.info("endpoint made", endpoint=endpoint_id, source=source.name, by=asked.token.id)
    return await _shown(asked, endpoint_id, status=201, odd=odd)


async def show(asked: ApiRequest) -> Response:
    """The endpoint as it is now."""
    return await _shown(asked)


async def _shown(
    asked: ApiRequest, endpoint_id: str | None = None, *, status: int = 200, odd: str | None = None
) -> Response:
    """`odd` is what is to be said of a secret that was taken, but may not be the right text."""
    view = await _mine(asked, endpoint_id)
    source = asked.desk.sources.get(view.source)
    if odd is not None:
        log.warning("an odd signing secret", endpoint=view.id, source=view.source, why=odd)
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
        "state": _state(view, source),
    }
    return answer(shown if odd is None else {**shown, "warning": f"{odd}."}, status)


def _state(view: EndpointView, source: Source | None) -> str:
    """One without a secret of its own is open by its account's, which verify deliveries there."""
    has_keys = source is not None and source.account_keys
    return "open" if view.state == "pending" and has_keys else view.state


async def set_secret(asked: ApiRequest) -> Response:
    """Register the signing secret, and what the endpoint is for; the same again changes nothing.

    Where the account's secrets verify, the endpoint needs none, and may be bound alone.
    """
    view = await _open(asked)
    fields = await asked.fields(optional=("secret", "resource", "task_id"))
    secret, task_id = fields["secret"], fields["task_id"]
    source = _source(asked, view.source)
    odd = _usable(source, secret)
    resource = fields["resource"] or view.resource
    _refuse_binding(view, fields["resource"], task_id)
    if secret is None and not source.account_keys:
        raise Problem(422, "The field secret is missing: send it.")
    if secret is None and fields["resource"] is None and task_id is None:
        raise Problem(422, "There is nothing to set: send secret, or resource.")
    if task_id is not None and resource is None:
        raise Problem(422, "The field resource is missing: send it, for task_id is where it lives.")
    try:
        await _set(asked, view, secret, resource, task_id)
    except SecretRefused as refusal:
        raise Problem(409, f"The secret was not registered. {refusal}") from None
    except NotFound:
        await _open(asked)  # closed meanwhile?
        raise Problem(
            409, f"Endpoint {view.id} is bound to another resource: make one for this resource."
        ) from None
    event = "endpoint bound" if secret is None else "secret set"
    log.info(event, endpoint=view.id, source=view.source, by=asked.token.id)
    return await _shown(asked, odd=odd)


async def _set(
    asked: ApiRequest,
    view: EndpointView,
    secret: str | None,
    resource: str | None,
    task_id: str | None,
) -> None:
    ask, store = asked.desk.ask, asked.desk.store
    if secret is not None:
        await ask(store.endpoints.set_secret, view.id, secret, resource=resource, task_id=task_id)
    elif resource is not None:
        await ask(store.endpoints.bind, view.id, resource, task_id=task_id)


def _refuse_binding(view: EndpointView, resource: str | None, task_id: str | None) -> None:
    if view.kind == "account" and (resource is not None or task_id is not None):
        raise Problem(422, "An endpoint for the account is for no single resource: leave it out.")


async def close(asked: ApiRequest) -> Response:
    """Answer 404 to the sender from now on; what was acknowledged stays."""
    view = await _mine(asked)
    if view.state != "closed":
        try:
            await asked.desk.ask(asked.desk.store.endpoints.close, view.id)
        except NotFound:  # somebody else was quicker
            return Response(status_code=204)
        log.info("endpoint closed", endpoint=view.id, source=view.source, by=asked.token.id)
    return Response(status_code=204)


async def _mine(asked: ApiRequest, endpoint_id: str | None = None) -> EndpointView:
    """The endpoint that is asked for; another source's is as unknown as one that never was."""
    wanted = endpoint_id or asked.params["endpoint_id"]
    view = await asked.desk.ask(asked.desk.store.endpoints.find, wanted)
    if view is None or asked.token.source not in (None, view.source):
        raise _unknown()
    return view


async def _open(asked: ApiRequest) -> EndpointView:
    view = await _mine(asked)
    if view.state == "closed":
        raise _unknown()
    return view


def _unknown() -> Problem:
    return Problem(
        404, "There is no such open endpoint: look at its id, or make one with POST /endpoints."
    )


def _source(asked: ApiRequest, name: str) -> Source:
    sources = asked.desk.sources
    if name not in sources:
        there = ", ".join(sorted(sources)) or "none"
        raise Problem(422, f"There is no source {name!r} (configured: {there}): name one of those.")
    return sources[name]


def _usable(source: Source, secret: str | None) -> str | None:
    """A secret that can never verify fails here, not as a wall of refused deliveries.

    Returns what is to be said of one that only looks odd.
    """
    if secret is None:
        return None
    try:
        prepare(source.scheme, secret)
    except ValueError as error:
        raise Problem(422, f"The secret was not registered: {error}.") from None
    return doubt(source.scheme, secret)
