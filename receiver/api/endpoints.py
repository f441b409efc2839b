"""Registration by program: endpoints are made, given their secret, shown and closed."""

from starlette.responses import Response

from receiver import endpoints
from receiver.api.requests import ApiRequest, Body, Word
from receiver.api.responses import Problem, answer
from receiver.errors import UsageError
from receiver.sources import Source
from receiver.telemetry.logs import get_logger
from storage import EndpointView, NotFound, SecretRefused

log = get_logger("api")


class NewEndpoint(Body):
    """The body that makes an endpoint."""

    source: Word
    kind: Word
    resource: Word | None = None
    task_id: Word | None = None
    secret: str | None = None


class NewSecret(Body):
    """The body that sets a signing secret, or binds an endpoint to its resource."""

    secret: str | None = None
    resource: Word | None = None
    task_id: Word | None = None


async def add(request: ApiRequest) -> Response:
    """Make an endpoint; its secret is pending unless given."""
    body = await request.body(NewEndpoint)
    context = request.context
    source = _source(request, request.source(body.source) or "")
    try:
        endpoints.check_kind(source, body.kind, with_account=False)
        endpoints.check_binding(source, body.kind, resource=body.resource, task_id=body.task_id)
    except UsageError as refusal:
        raise Problem(422, str(refusal)) from None
    warning = _checked(source, body.secret)
    view = await context.in_thread(
        endpoints.register,
        context.store,
        source,
        body.kind,
        resource=body.resource,
        task_id=body.task_id,
        secret=body.secret,
        endpoint_id=request.reserved,
    )
    log.info("endpoint made", endpoint=view.id, source=source.name, by=request.token.id)
    return _shown(request, view, status=201, warning=warning)


async def show(request: ApiRequest) -> Response:
    """Show an endpoint."""
    return _shown(request, await _find(request))


async def set_secret(request: ApiRequest) -> Response:
    """Register the signing secret, and what the endpoint is for; repeating it changes nothing.

    Where the account's secrets verify, the endpoint needs none, and may be bound alone.
    """
    view = await _find(request, is_open=True)
    body = await request.body(NewSecret)
    source = _source(request, view.source)
    warning = _checked(source, body.secret)
    _check_binding(source, view, body)
    if body.secret is None and not source.account_keys:
        raise Problem(422, "The field secret is missing: send it.")
    if body.secret is None and body.resource is None and body.task_id is None:
        raise Problem(422, "There is nothing to set: send secret, or resource.")
    await _attach(request, view, body)
    event = "endpoint bound" if body.secret is None else "secret set"
    log.info(event, endpoint=view.id, source=view.source, by=request.token.id)
    return _shown(request, await _find(request), warning=warning)


def _check_binding(source: Source, view: EndpointView, body: NewSecret) -> None:
    """Raise Problem for a resource or a task that the endpoint cannot have."""
    try:
        endpoints.check_binding(source, view.kind, resource=body.resource, task_id=body.task_id)
    except UsageError as refusal:
        raise Problem(422, str(refusal)) from None


async def _attach(request: ApiRequest, view: EndpointView, body: NewSecret) -> None:
    """Store the secret, the binding, or both; raises Problem."""
    in_thread, store = request.context.in_thread, request.context.store
    bound = {"resource": body.resource, "task_id": body.task_id}
    try:
        if body.secret is None:
            await in_thread(endpoints.bind, store, view, **bound)
        else:
            await in_thread(endpoints.set_secret, store, view, body.secret, **bound)
    except SecretRefused as refusal:
        raise Problem(409, f"The secret was not registered. {refusal}") from None
    except endpoints.BoundElsewhere as refusal:
        raise Problem(409, str(refusal)) from None
    except UsageError as refusal:
        raise Problem(422, str(refusal)) from None
    except NotFound:  # closed meanwhile
        raise _unknown() from None


async def close(request: ApiRequest) -> Response:
    """Answer 404 to the sender from now on; acknowledged deliveries stay."""
    view = await _find(request)
    context = request.context
    if view.state != "closed" and await context.in_thread(endpoints.close, context.store, view.id):
        log.info("endpoint closed", endpoint=view.id, source=view.source, by=request.token.id)
    return Response(status_code=204)


def _shown(
    request: ApiRequest, view: EndpointView, *, status: int = 200, warning: str | None = None
) -> Response:
    source = request.context.sources.get(view.source)
    address = endpoints.address(view.source, view.id, request.context.public_url)
    shown = {
        "endpoint": view.id,
        "path": address.path,
        "url": address.url,
        "source": view.source,
        "kind": view.kind,
        "resource": view.resource,
        "task_id": view.task_id,
        "state": endpoints.state_of(view, source),
    }
    if warning is None:
        return answer(shown, status)
    log.warning("an odd signing secret", endpoint=view.id, source=view.source, why=warning)
    return answer({**shown, "warning": warning}, status)


async def _find(request: ApiRequest, *, is_open: bool = False) -> EndpointView:
    """Return the endpoint of the path; raises Problem, 404, also for another source's."""
    context = request.context
    view = await context.in_thread(context.store.endpoints.find, request.params["endpoint_id"])
    if view is None or request.token.source not in (None, view.source):
        raise _unknown()
    if is_open and view.state == "closed":
        raise _unknown()
    return view


def _unknown() -> Problem:
    return Problem(
        404, "There is no such open endpoint: look at its id, or make one with POST /endpoints."
    )


def _source(request: ApiRequest, name: str) -> Source:
    sources = request.context.sources
    if name not in sources:
        configured = ", ".join(sorted(sources)) or "none"
        raise Problem(
            422, f"There is no source {name!r} (configured: {configured}): name one of those."
        )
    return sources[name]


def _checked(source: Source, secret: str | None) -> str | None:
    """Return a warning for an odd secret, or None; raises Problem for one that cannot verify."""
    try:
        return None if secret is None else endpoints.check_secret(source, secret)
    except UsageError as refusal:
        raise Problem(422, str(refusal)) from None
