"""Registration of endpoints: the rules of the command line and of the HTTP API.

The functions block: they call the store.
"""

from dataclasses import dataclass
from datetime import datetime

from receiver.errors import UsageError
from receiver.signatures.verify import doubt, prepare
from receiver.sources import Source, webhook_url
from storage import EndpointView, NotFound, Store

ACCOUNT = "account"
"""The kind of an endpoint for everything that an account announces."""


class BoundElsewhere(UsageError):
    """Was bound to another resource, or below another stored task, before."""


@dataclass(frozen=True, slots=True)
class Address:
    """The address for deliveries to an endpoint; `url` is None without a public URL."""

    path: str
    url: str | None


def address(source: str, endpoint_id: str, public_url: str | None) -> Address:
    """Return the path of an endpoint, and its URL where ours is known."""
    url = webhook_url(public_url, source, endpoint_id) if public_url else None
    return Address(webhook_url("", source, endpoint_id), url)


def state_of(view: EndpointView, source: Source | None) -> str:
    """Return `pending`, `open` or `closed`.

    An endpoint without a secret is open where the account's secrets verify its deliveries.
    """
    has_account_keys = source is not None and bool(source.account_keys)
    return "open" if view.state == "pending" and has_account_keys else view.state


def find_open(store: Store, endpoint_id: str) -> EndpointView:
    """Return an endpoint with its secrets; raises NotFound for an unknown or a closed one."""
    view = store.endpoints.find(endpoint_id)
    if view is None or view.state == "closed":
        raise NotFound(f"There is no open endpoint {endpoint_id}: see `endpoint list`.")
    return view


def check_kind(source: Source, kind: str, *, with_account: bool, field: str = "kind") -> None:
    """Raise UsageError for a kind that the source's sender does not announce.

    `with_account` allows an endpoint for the account; `field` is where the caller gives the kind.
    """
    kinds = {*source.provider.kinds, ACCOUNT} if with_account else source.provider.kinds
    if kind not in kinds:
        allowed = " or ".join(sorted(kinds))
        raise UsageError(f"Source {source.name} announces no {kind}: use {field} {allowed}.")


def check_binding(source: Source, kind: str, *, resource: str | None, task_id: str | None) -> None:
    """Raise UsageError for a resource or a task that an endpoint of this kind cannot have."""
    if kind == ACCOUNT and (resource is not None or task_id is not None):
        raise UsageError("An endpoint for the account is for no single resource: leave it out.")
    if task_id is not None and not source.provider.below_tasks:
        raise UsageError(f"Source {source.name} has no stored tasks: leave the task out.")


def check_secret(source: Source, secret: str) -> str | None:
    """Raise UsageError for a secret that can never verify a delivery.

    Returns a warning for one that may not be the right text, or None.
    """
    try:
        prepare(source.scheme, secret)
    except ValueError as error:
        raise UsageError(f"The secret was not registered: {error}.") from None
    doubted = doubt(source.scheme, secret)
    return None if doubted is None else f"{doubted}."


def register(
    store: Store,
    source: Source,
    kind: str,
    *,
    resource: str | None = None,
    task_id: str | None = None,
    secret: str | None = None,
    endpoint_id: str | None = None,
) -> EndpointView:
    """Make an endpoint, whose secret is pending unless given.

    What is given has been checked. `task_id` is the task below which `resource` lives. An
    `endpoint_id` that was reserved for it makes a repeated call change nothing.
    """
    endpoint_id = store.endpoints.add(
        source.name,
        kind,
        resource=resource,
        task_id=task_id,
        secret=secret,
        endpoint_id=endpoint_id,
    )
    return find_open(store, endpoint_id)


def set_secret(
    store: Store,
    view: EndpointView,
    secret: str,
    *,
    resource: str | None = None,
    task_id: str | None = None,
) -> None:
    """Add a checked signing secret, and bind the endpoint where a resource or a task is given.

    The binding has been checked. Raises UsageError where it is another than before or incomplete,
    NotFound for an endpoint that was closed meanwhile, and SecretRefused for a secret that was
    replaced or is one too many.
    """
    resource = _resource(view, resource, task_id)
    try:
        store.endpoints.set_secret(view.id, secret, resource=resource, task_id=task_id)
    except NotFound:
        raise _not_bound(store, view, resource) from None


def bind(
    store: Store, view: EndpointView, *, resource: str | None = None, task_id: str | None = None
) -> None:
    """Bind an endpoint to its resource, without a secret; raises as `set_secret`."""
    resource = _resource(view, resource, task_id)
    if resource is None:
        return
    try:
        store.endpoints.bind(view.id, resource, task_id=task_id)
    except NotFound:
        raise _not_bound(store, view, resource) from None


def rotate(store: Store, view: EndpointView, secret: str, *, old_until: datetime) -> None:
    """Replace the secrets by a checked one; the old ones end at `old_until`.

    Raises UsageError for the newest secret itself, NotFound for a closed endpoint.
    """
    if view.secrets and view.secrets[0].text == secret:
        raise UsageError("The secret was not replaced: it is the newest one already.")
    store.endpoints.rotate_secret(view.id, secret, old_until=old_until)


def close(store: Store, endpoint_id: str) -> bool:
    """Answer 404 to the sender from now on; False where there is no such open endpoint."""
    try:
        store.endpoints.close(endpoint_id)
    except NotFound:
        return False
    return True


def _resource(view: EndpointView, resource: str | None, task_id: str | None) -> str | None:
    """Return the resource to bind to: the one that it is bound to already unless given."""
    resource = resource or view.resource
    if task_id is not None and resource is None:
        raise UsageError("The resource is missing: name the one that lives below this task.")
    return resource


def _not_bound(store: Store, view: EndpointView, resource: str | None) -> BoundElsewhere:
    """Return why an open endpoint could not be bound; raises NotFound if it is open no more."""
    bound = find_open(store, view.id)
    if bound.resource == resource:
        return BoundElsewhere(
            f"Endpoint {view.id} is bound below another stored task: make one for this task."
        )
    return BoundElsewhere(
        f"Endpoint {view.id} is bound to another resource: make one for this resource."
    )
