"""Tables of endpoints with their secrets, of tokens, and of small facts."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.models.columns import JSON_DOCUMENT, KEY, one_of

SERVING = "serving:"
"""Begins the keys in `meta` of the processes that serve behind a pooler; a value ends a lease."""


class Meta(SQLModel, table=True):
    """Small facts: the encryption canary, the endpoints' revision."""

    __tablename__ = "meta"

    key: str = Field(primary_key=True)
    value: str


class Endpoint(SQLModel, table=True):
    """Our URL for a source, or for one expected batch, task or run. `id` is 128 random bits.

    `resource` is None until it is known what the sender made; `task_id` is the stored task below
    which it lives, where the sender's addresses need that (Parallel v0). `pending` means that the
    signing secret has not arrived yet.
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        one_of("kind", "batch", "task", "run", "contents", "account"),
        one_of("state", "pending", "open", "closed"),
        # "which endpoint expects this batch?"
        Index("ix_endpoints_source_resource", "source", "resource"),
    )

    id: str = Field(primary_key=True)
    source: str
    kind: str
    resource: str | None = None
    task_id: str | None = None
    state: str
    created_at: datetime
    closed_at: datetime | None = None


class Secret(SQLModel, table=True):
    """A signing secret of an endpoint, encrypted, with its validity span.

    `reading` is the key reading that last verified a delivery: it is shown, and tried first, but
    the others are tried too.
    """

    __tablename__ = "secrets"

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    endpoint_id: str = Field(foreign_key="endpoints.id", index=True)
    ciphertext: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    valid_from: datetime
    valid_until: datetime | None = None
    reading: str | None = None
    created_at: datetime


class Token(SQLModel, table=True):
    """Access to the API for a program. Only a digest is kept; the token is shown once.

    `source` None means all sources, `expires_at` None that it ends only when it is revoked.
    """

    __tablename__ = "tokens"
    __table_args__ = (
        # "whose token is this?", for every request
        UniqueConstraint("digest"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    name: str
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    scopes: list[str] = Field(sa_column=Column(JSON_DOCUMENT, nullable=False))
    source: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None


class IdempotencyKey(SQLModel, table=True):
    """A program's key for one request, so that repeating the request does not repeat its effect.

    `fingerprint` is a digest of the request, `resource` the id reserved for what it makes. `status`
    and `body` are its answer; they are NULL while it is in progress, which `began_at` dates.
    """

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        # "was this request answered before?"
        UniqueConstraint("token_id", "key"),
        # those that are old enough to be forgotten
        Index("ix_idempotency_keys_created_at", "created_at"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    token_id: int = Field(sa_column=Column(KEY, ForeignKey("tokens.id"), nullable=False))
    key: str
    fingerprint: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    resource: str
    status: int | None = None
    body: str | None = None
    began_at: datetime
    created_at: datetime
