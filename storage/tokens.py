"""Tokens of programs: what they may do and at which source. Only a digest is kept of each.

A token is 256 random bits, so its plain SHA-256 reveals nothing and needs no salt.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TypedDict

from sqlalchemy import select, update
from sqlmodel import col

from storage.database import Database, as_dicts, insert
from storage.errors import NotFound, TokenExpired
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
    expires_at: datetime | None
    text: str = field(repr=False)


class TokenRow(TypedDict):
    """A token as it is listed: without its digest."""

    id: int
    name: str
    scopes: list[str]
    source: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenStore:
    """The tokens of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        source: str | None = None,
        lifetime: timedelta | None = None,
    ) -> NewToken:
        """Make a token, valid for its lifetime or until it is revoked; its text is not kept."""
        now = self._database.now()
        expires_at = None if lifetime is None else now + lifetime
        text = PREFIX + secrets.token_urlsafe(32)
        row = {
            "name": clean(name),
            "digest": _digest(text),
            "scopes": sorted(set(scopes)),
            "source": source,
            "created_at": now,
            "expires_at": expires_at,
        }
        new = insert(Token).values(row).returning(col(Token.id))
        token_id = self._database.write(lambda c: c.execute(new).scalar_one())
        assert token_id is not None  # noqa: S101  a row has its key
        return NewToken(token_id, expires_at, text)

    def find(self, text: str) -> TokenView | None:
        """Return the token with this text, or None where it is unknown or revoked.

        Raises TokenExpired once its time is over.
        """
        digest = _digest(text)
        valid = select(Token).where(col(Token.digest) == digest, col(Token.revoked_at).is_(None))
        with self._database.read() as connection:
            row = connection.execute(valid).one_or_none()
        # The index compares digests of the caller's text, which he cannot steer; so does this, in
        # constant time.
        if row is None or not hmac.compare_digest(row.digest, digest):
            return None
        if row.expires_at is not None and row.expires_at <= self._database.now():
            raise TokenExpired(row.id)
        return TokenView(row.id, row.name, frozenset(row.scopes), row.source)

    def list_all(self) -> list[TokenRow]:
        """Return all tokens, newest first, without their digests."""
        columns = [col(getattr(Token, name)) for name in TokenRow.__annotations__]
        with self._database.read() as connection:
            return as_dicts(connection.execute(select(*columns).order_by(col(Token.id).desc())))

    def revoke(self, token_id: int) -> None:
        """End a token; raises NotFound, also where it was revoked before."""
        end = (
            update(Token)
            .where(col(Token.id) == token_id, col(Token.revoked_at).is_(None))
            .values(revoked_at=self._database.now())
        )
        if self._database.write(lambda c: c.execute(end).rowcount) != 1:
            raise NotFound(f"There is no token {token_id} that is still valid: see `token list`.")


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "replace")).digest()
