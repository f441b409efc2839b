"""Tables of events with their deliveries, and of the quarantine."""

from datetime import datetime

from sqlalchemy import Column, ForeignKey, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from storage.models.columns import KEY, one_of


class Event(SQLModel, table=True):
    """An event at the sender, stored once. It outlives its deliveries."""

    __tablename__ = "events"
    __table_args__ = (
        one_of("disposition", "fetch", "ignored", "unusable"),
        # Unique (source, event key), kept as the 16-byte digest of both: the same promise, and the
        # index stays a third of the size. This is what makes a redelivery harmless.
        UniqueConstraint("key_digest"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    source: str
    endpoint_id: str | None = None
    key: str
    key_digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    disposition: str
    received_at: datetime


class Delivery(SQLModel, table=True):
    """A verified request as it came. `copies` counts the further ones with the same body."""

    __tablename__ = "deliveries"
    __table_args__ = (
        # Equal bodies of one event only count; also serves "the deliveries of this event".
        UniqueConstraint("event_id", "digest"),
    )

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    event_id: int = Field(sa_column=Column(KEY, ForeignKey("events.id"), nullable=False))
    digest: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    headers: str
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    received_at: datetime
    copies: int = 0
    last_copy_at: datetime | None = None
    # When body and headers were emptied for their age.
    pruned_at: datetime | None = None


class Quarantined(SQLModel, table=True):
    """A request that was refused, kept within bounds for the operator."""

    __tablename__ = "quarantine"

    id: int | None = Field(default=None, sa_column=Column(KEY, primary_key=True))
    source: str
    endpoint_id: str | None = None
    reason: str
    detail: str
    headers: str
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    body_bytes: int
    received_at: datetime
