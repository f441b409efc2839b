"""Signing secrets of endpoints: rotated, listed without their texts, and read for a source."""

from collections import defaultdict
from datetime import datetime
from typing import TypedDict

from sqlalchemy import Connection, or_, select, update
from sqlmodel import col

from storage.database import as_dicts
from storage.encryption import Vault
from storage.endpoints import endpoints
from storage.endpoints.endpoints import EndpointRow, SigningSecret
from storage.models import Endpoint, Secret

MAX_LISTED = 500
"""Secrets of a source that are tried to explain a refusal, the newest ones."""


def rotate(
    connection: Connection,
    vault: Vault,
    endpoint_id: str,
    text: str,
    *,
    old_until: datetime,
    now: datetime,
) -> None:
    """Add a secret; the older ones end at `old_until`, or earlier where an earlier call said so.

    Raises NotFound for an unknown or closed endpoint.
    """
    until = col(Secret.valid_until)
    connection.execute(
        update(Secret)
        .where(col(Secret.endpoint_id) == endpoint_id, or_(until.is_(None), until > old_until))
        .values(valid_until=old_until)
    )
    endpoints.put_secret(connection, vault, endpoint_id, text, now=now)


class SecretRow(TypedDict):
    """A signing secret without its text. `reading` is the key reading that verified last."""

    id: int
    valid_from: datetime
    valid_until: datetime | None
    reading: str | None


class EndpointListing(EndpointRow):
    """An endpoint as it is listed, with its secrets, newest first, without their texts."""

    secrets: list[SecretRow]


def describe(
    connection: Connection, rows: list[EndpointRow], *, source: str | None
) -> list[EndpointListing]:
    """Return the listed endpoints with their secrets, without the texts of these."""
    found: dict[str, list[SecretRow]] = defaultdict(list)
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
    for shown in as_dicts(connection.execute(query)):
        found[shown.pop("endpoint_id")].append(shown)
    return [{**row, "secrets": found[row["id"]]} for row in rows]


def of_source(connection: Connection, vault: Vault, source: str) -> list[tuple[str, SigningSecret]]:
    """Return the newest secrets of all endpoints of a source, each with its endpoint's id."""
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
