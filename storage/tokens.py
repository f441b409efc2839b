"""Tokens of programs: what they may do and at which source. Only a digest is kept of each.

A token is 256 random bits, so its plain SHA-256 tells nothing and needs no salt.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Connection, select, update
from sqlmodel import col

from storage.database import insert
from storage.errors import NotFound
from storage.json_text import clean
from storage.models import Token

PREFIX = "rs_"
"""How every token begins, so that people and scanners know one where it should not be."""


@dataclass(frozen=True, slots=True)
class TokenView:
    """A token that is valid: who has it, and what it opens. `source` None means all sources."""

    id: int
    name: str
    scopes: frozenset[str]
    source: str | None


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token just made, with its text: the only time that anybody sees it. Not in its repr."""

    id: int
    text: str = field(repr=False)


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
    """The token with this text, or None: unknown or revoked."""
    digest = _digest(text)
    row = connection.execute(
        select(Token).where(col(Token.digest) == digest, col(Token.revoked_at).is_(None))
    ).one_or_none()
    # The index compares digests of the caller's text, which he cannot steer; this says it in code.
    if row is None or not hmac.compare_digest(row.digest, digest):
        return None
    return TokenView(row.id, row.name, frozenset(row.scopes), row.source)


def list_all(connection: Connection) -> list[dict[str, Any]]:
    """All tokens, newest first, without their digests."""
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
    return [dict(row._mapping) for row in rows]


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
