"""Tokens of programs: what they may do and at which source. Only a digest is kept of each.

A token is 256 random bits, so its plain SHA-256 reveals nothing and needs no salt.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import TypedDict

from sqlalchemy import Connection, select, update
from sqlmodel import col

from storage.database import as_dicts, insert
from storage.errors import NotFound
from storage.json_text import clean
from storage.models import Token

PREFIX = "rs_"
"""The beginning of every token, by which people and scanners recognise a leaked one."""


@dataclass(frozen=True, slots=True)
class TokenView:
    """A valid token: whose it is, and what it opens. `source` None means all sources."""

    id: int
    name: str
    scopes: frozenset[str]
    source: str | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made, with its text, which is shown only now and is not in the repr."""

    id: int
    text: str = field(repr=False)


class TokenRow(TypedDict):
    """A token as it is listed: without its digest."""

    id: int
    name: str
    scopes: list[str]
    source: str | None
    created_at: datetime
    revoked_at: datetime | None


def create(
    connection: Connection,
    *,
    name: str,
    scopes: Sequence[str],
    source: str | None,
    now: datetime,
) -> NewToken:
    """Make a token that is valid until it is revoked."""
    text = PREFIX + secrets.token_urlsafe(32)
    statement = insert(Token).values(
        name=clean(name),
        digest=_digest(text),
        scopes=sorted(set(scopes)),
        source=source,
        created_at=now,
    )
    token_id = connection.execute(statement.returning(col(Token.id))).scalar_one()
    assert token_id is not None  # noqa: S101  a row has its key
    return NewToken(token_id, text)


def find(connection: Connection, text: str) -> TokenView | None:
    """Return the token with this text, or None where it is unknown or revoked."""
    digest = _digest(text)
    row = connection.execute(
        select(Token).where(col(Token.digest) == digest, col(Token.revoked_at).is_(None))
    ).one_or_none()
    # The index compares digests of the caller's text, which he cannot steer; so does this, in
    # constant time.
    if row is None or not hmac.compare_digest(row.digest, digest):
        return None
    return TokenView(row.id, row.name, frozenset(row.scopes), row.source)


def list_all(connection: Connection) -> list[TokenRow]:
    """Return all tokens, newest first, without their digests."""
    rows = connection.execute(
        select(
            col(Token.id),
            col(Token.name),
            col(Token.scopes),
            col(Token.source),
            col(Token.created_at),
            col(Token.revoked_at),
        ).order_by(col(Token.id).desc())
    )
    return as_dicts(rows)


def revoke(connection: Connection, token_id: int, *, now: datetime) -> None:
    """Let a token open nothing from now on; raises NotFound, also where it was revoked before."""
    revoked = connection.execute(
        update(Token)
        .where(col(Token.id) == token_id, col(Token.revoked_at).is_(None))
        .values(revoked_at=now)
    )
    if revoked.rowcount != 1:
        raise NotFound(f"There is no token {token_id} that is still valid: see `token list`.")


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "replace")).digest()
