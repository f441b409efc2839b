"""Secrets encrypted again under another key, a few at a time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from sqlalchemy import Connection, delete, select, update
from sqlmodel import col

from storage.encryption import Vault
from storage.endpoints import endpoints
from storage.errors import WrongKey
from storage.models import Endpoint, Secret


class UnreadableSecret(TypedDict):
    """A secret that no key opens, and its endpoint."""

    endpoint: str
    secret: int


@dataclass(slots=True)
class Look:
    """Some secrets: `kept` are under the first key already; `last` is None after the last one."""

    last: int | None = None
    kept: int = 0
    renewed: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    unreadable: list[UnreadableSecret] = field(default_factory=list)


def look(connection: Connection, vault: Vault, *, after: int, limit: int) -> Look:
    """Return what is to be done about the secrets after this id; writes nothing."""
    query = select(col(Secret.id), col(Secret.endpoint_id), col(Secret.ciphertext))
    found = Look()
    for row in connection.execute(
        query.where(col(Secret.id) > after).order_by(col(Secret.id)).limit(limit)
    ):
        found.last = row.id
        if vault.is_under_first(row.ciphertext):
            found.kept += 1
            continue
        try:
            text = vault.decrypt(row.ciphertext)
        except WrongKey:
            found.unreadable.append({"endpoint": row.endpoint_id, "secret": row.id})
        else:
            found.renewed.append((row.id, row.ciphertext, vault.encrypt(text)))
    return found


def renew(connection: Connection, renewed: list[tuple[int, bytes, bytes]]) -> None:
    """Store what was encrypted again, except for a secret that has changed since."""
    for secret_id, before, after in renewed:
        connection.execute(
            update(Secret)
            .where(col(Secret.id) == secret_id, col(Secret.ciphertext) == before)
            .values(ciphertext=after)
        )


def forget(connection: Connection, unreadable: Sequence[UnreadableSecret]) -> None:
    """Delete secrets; an endpoint that has none left waits for one, as it did at first."""
    ids = [each["secret"] for each in unreadable]
    connection.execute(delete(Secret).where(col(Secret.id).in_(ids)))
    left = select(col(Secret.id)).where(col(Secret.endpoint_id) == col(Endpoint.id)).exists()
    connection.execute(
        update(Endpoint)
        .where(col(Endpoint.id).in_({each["endpoint"] for each in unreadable}))
        .where(col(Endpoint.state) == "open", ~left)
        .values(state="pending")
    )
    endpoints.count_change(connection)
