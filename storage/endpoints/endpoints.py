"""Endpoints: which URL expects which resource, and the secrets that verify its deliveries."""

import secrets as random
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from sqlalchemy import Connection, Executable, Integer, Row, String, cast, select, update
from sqlmodel import col

from storage.database import as_dicts, insert, statement
from storage.encryption import Vault
from storage.errors import NotFound, SecretRefused
from storage.models import Endpoint, Meta, Secret

REVISION = "endpoints_revision"
MAX_SECRETS = 5
"""Secrets of an endpoint that are tried: the newest valid ones."""


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A decrypted signing secret with its validity span; its repr does not show it."""

    id: int
    text: str = field(repr=False)
    valid_from: datetime
    valid_until: datetime | None
    reading: str | None


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint with its secrets, newest first; without them where it was read so."""

    id: str
    source: str
    kind: str
    resource: str | None
    state: str
    created_at: datetime
    secrets: tuple[SigningSecret, ...] = ()
    task_id: str | None = None


class EndpointRow(TypedDict):
    """An endpoint as it is stored, without its secrets."""

    id: str
    source: str
    kind: str
    resource: str | None
    task_id: str | None
    state: str
    created_at: datetime
    closed_at: datetime | None


def new_id() -> str:
    """Return 128 random bits, url-safe; it never begins like a command's option."""
    while (chosen := random.token_urlsafe(16)).startswith("-"):
        pass
    return chosen


def add(
    connection: Connection,
    *,
    source: str,
    kind: str,
    resource: str | None,
    task_id: str | None = None,
    endpoint_id: str | None = None,
    now: datetime,
) -> str:
    """Make an endpoint whose secret is pending; returns its id."""
    endpoint_id = endpoint_id or new_id()
    connection.execute(
        insert(Endpoint).values(
            id=endpoint_id,
            source=source,
            kind=kind,
            resource=resource,
            task_id=task_id,
            state="pending",
            created_at=now,
        )
    )
    count_change(connection)
    return endpoint_id


def set_secret(
    connection: Connection, vault: Vault, endpoint_id: str, text: str, *, now: datetime
) -> None:
    """Add a signing secret and open the endpoint; older secrets stay valid beside it.

    A secret that is valid without an end is not added again. Raises SecretRefused for one that was
    given an end, and where MAX_SECRETS are valid; NotFound for an unknown or closed endpoint.
    """
    _open(connection, endpoint_id)
    if _is_new(connection, vault, endpoint_id, text, now=now):
        _insert(connection, vault, endpoint_id, text, now=now)


def put_secret(
    connection: Connection, vault: Vault, endpoint_id: str, text: str, *, now: datetime
) -> None:
    """Add a signing secret as the newest, without a check; raises NotFound as `set_secret`."""
    _open(connection, endpoint_id)
    _insert(connection, vault, endpoint_id, text, now=now)


def _open(connection: Connection, endpoint_id: str) -> None:
    opened = connection.execute(
        update(Endpoint)
        .where(col(Endpoint.id) == endpoint_id, col(Endpoint.state) != "closed")
        .values(state="open")
    )
    if opened.rowcount != 1:
        raise NotFound(f"There is no open endpoint {endpoint_id}: see `endpoint list`.")


def _insert(
    connection: Connection, vault: Vault, endpoint_id: str, text: str, *, now: datetime
) -> None:
    connection.execute(
        insert(Secret).values(
            endpoint_id=endpoint_id,
            ciphertext=vault.encrypt(text.encode()),
            valid_from=now,
            created_at=now,
        )
    )
    count_change(connection)


def _is_new(
    connection: Connection, vault: Vault, endpoint_id: str, text: str, *, now: datetime
) -> bool:
    """Return True unless the secret is valid already; raises SecretRefused.

    A secret that was replaced, perhaps because it leaked, is refused: a program that sets its
    secret at every start does not know of the rotation.
    """
    rows = connection.execute(
        select(col(Secret.ciphertext), col(Secret.valid_until)).where(
            col(Secret.endpoint_id) == endpoint_id
        )
    ).all()
    same = [row.valid_until for row in rows if vault.decrypt(row.ciphertext) == text.encode()]
    if same:
        if None in same:
            return False
        raise SecretRefused("This secret was replaced: use `endpoint rotate` to bring it back.")
    valid = [row for row in rows if row.valid_until is None or now < row.valid_until]
    if len(valid) >= MAX_SECRETS:
        raise SecretRefused(f"{MAX_SECRETS} secrets are valid already: use `endpoint rotate`.")
    return True


def bind(
    connection: Connection, endpoint_id: str, resource: str, *, task_id: str | None = None
) -> None:
    """Bind an endpoint to its resource; raises NotFound, also where it is bound to another."""
    bonds: dict[Any, str] = {col(Endpoint.resource): resource}
    if task_id is not None:
        bonds[col(Endpoint.task_id)] = task_id
    bound = connection.execute(
        update(Endpoint)
        .where(
            col(Endpoint.id) == endpoint_id,
            *(column.is_(None) | (column == value) for column, value in bonds.items()),
            col(Endpoint.state) != "closed",
        )
        .values(bonds)
    )
    if bound.rowcount != 1:
        raise NotFound(
            f"Endpoint {endpoint_id} is unknown, closed, or bound to another resource: "
            "see `endpoint list`."
        )
    count_change(connection)


def close(connection: Connection, endpoint_id: str, *, now: datetime) -> str | None:
    """Close an endpoint for good, which then answers 404. Returns its resource; raises NotFound."""
    closed: Row[Any] | None = connection.execute(
        update(Endpoint)
        .where(col(Endpoint.id) == endpoint_id, col(Endpoint.state) != "closed")
        .values(state="closed", closed_at=now)
        .returning(col(Endpoint.resource))
    ).one_or_none()
    if closed is None:
        raise NotFound(f"There is no open endpoint {endpoint_id}: see `endpoint list`.")
    count_change(connection)
    resource: str | None = closed.resource
    return resource


def remember_reading(connection: Connection, secret_id: int, reading: str) -> None:
    """Store which key reading verified, so that it is tried first and can be shown."""
    connection.execute(update(Secret).where(col(Secret.id) == secret_id).values(reading=reading))


def show(connection: Connection, endpoint_id: str) -> EndpointView | None:
    """Return one endpoint without its secrets, or None."""
    row = _one(connection, endpoint_id=endpoint_id).one_or_none()
    return None if row is None else _view(row)


@statement
def _one(endpoint_id: Any) -> Executable:
    return select(Endpoint).where(col(Endpoint.id) == endpoint_id)


def find(connection: Connection, vault: Vault, endpoint_id: str) -> EndpointView | None:
    """Return one endpoint with its secrets, or None."""
    row = _one(connection, endpoint_id=endpoint_id).one_or_none()
    return None if row is None else _with_secrets(connection, vault, row)


def find_by_resource(
    connection: Connection, vault: Vault, source: str, resource: str
) -> EndpointView | None:
    """Return the newest endpoint of `source` that expects `resource`, or None: one bounded read."""
    row = connection.execute(
        select(Endpoint)
        .where(
            col(Endpoint.source) == source,
            col(Endpoint.resource) == resource,
            col(Endpoint.state) == "open",
        )
        .order_by(col(Endpoint.created_at).desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _with_secrets(connection, vault, row)


def list_all(connection: Connection, *, source: str | None) -> list[EndpointRow]:
    """Return all endpoints, newest first, without their secrets."""
    query = select(Endpoint).order_by(col(Endpoint.created_at).desc())
    if source is not None:
        query = query.where(col(Endpoint.source) == source)
    return as_dicts(connection.execute(query))


def is_any(connection: Connection, source: str) -> bool:
    """Return True where a source has an endpoint at all."""
    query = select(col(Endpoint.id)).where(col(Endpoint.source) == source).limit(1)
    return connection.execute(query).first() is not None


def revision(connection: Connection) -> int:
    """Return a number that grows with every change of an endpoint or a secret, for caches."""
    value = connection.execute(select(col(Meta.value)).where(col(Meta.key) == REVISION)).scalar()
    return int(value or 0)


def count_change(connection: Connection) -> None:
    """Count a change by one statement, so that changes of two machines at once count twice."""
    next_one = cast(cast(col(Meta.value), Integer) + 1, String)
    connection.execute(
        insert(Meta)
        .values(key=REVISION, value="1")
        .on_conflict_do_update(index_elements=["key"], set_={"value": next_one})
    )


def _with_secrets(connection: Connection, vault: Vault, row: Row[Any]) -> EndpointView:
    secrets = connection.execute(
        select(Secret).where(col(Secret.endpoint_id) == row.id).order_by(col(Secret.id).desc())
    )
    return _view(
        row,
        tuple(
            SigningSecret(
                id=secret.id,
                text=vault.decrypt(secret.ciphertext).decode(),
                valid_from=secret.valid_from,
                valid_until=secret.valid_until,
                reading=secret.reading,
            )
            for secret in secrets
        ),
    )


def _view(row: Row[Any], secrets: tuple[SigningSecret, ...] = ()) -> EndpointView:
    return EndpointView(
        id=row.id,
        source=row.source,
        kind=row.kind,
        resource=row.resource,
        state=row.state,
        created_at=row.created_at,
        task_id=row.task_id,
        secrets=secrets,
    )
