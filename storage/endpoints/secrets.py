"""Signing secrets beside their endpoints: how they follow one another, and how they are shown."""

from collections import defaultdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, or_, select, update
from sqlmodel import col

from storage.encryption import Vault
from storage.endpoints import endpoints
from storage.endpoints.endpoints import SigningSecret
from storage.models import Endpoint, Secret

MAX_LISTED = 500
"""Secrets of a source that are looked at to explain a refusal, the newest ones."""


def rotate(
    connection: Connection,
    vault: Vault,
    endpoint_id: str,
    text: str,
    *,
    old_until: datetime,
    now: datetime,
) -> None:
    """Add a secret; those there were end at `old_until`, or earlier where that was said before.

    Raises NotFound for an unknown or closed endpoint.
    """
    until = col(Secret.valid_until)
    connection.execute(
        update(Secret)
        .where(col(Secret.endpoint_id) == endpoint_id, or_(until.is_(None), until > old_until))
        .values(valid_until=old_until)
    )
    endpoints.put_secret(connection, vault, endpoint_id, text, now=now)


def describe(
    connection: Connection, rows: list[dict[str, Any]], *, source: str | None
) -> list[dict[str, Any]]:
    """The listed endpoints, each with what may be shown of its secrets, newest first."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    query = select(
        col(Secret.endpoint_id),
        col(Secret.id),
        col(Secret.valid_from),
        col(Secret.valid_until),
        col(Secret.reading),
    ).order_by(col(Secret.id).desc())
    if source is not None:
        query = query.join(Endpoint, col(Endpoint.id) == col(Secret.endpoint_id)).where(
            col(Endpoint.source) == source
        )
    for row in connection.execute(query):
        shown = dict(row._mapping)
        found[shown.pop("endpoint_id")].append(shown)
    return [{**row, "secrets": found[row["id"]]} for row in rows]


def of_source(connection: Connection, vault: Vault, source: str) -> list[tuple[str, SigningSecret]]:
    """The newest secrets of all endpoints of a source, each with its endpoint's id."""
    query = (
        select(Secret)
        .join(Endpoint, col(Endpoint.id) == col(Secret.endpoint_id))
        .where(col(Endpoint.source) == source)
        .order_by(col(Secret.id).desc())
        .limit(MAX_LISTED)
    )
    return [
        (
            row.endpoint_id,
            SigningSecret(
                id=row.id,
                text=vault.decrypt(row.ciphertext).decode(),
                valid_from=row.valid_from,
                valid_until=row.valid_until,
                reading=row.reading,
            ),
        )
        for row in connection.execute(query)
    ]
