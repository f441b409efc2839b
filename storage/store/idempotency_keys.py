"""Idempotency keys: a program's request that is repeated has its effect, and its answer, once."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlmodel import col

from storage.database import insert
from storage.endpoints.endpoints import new_id
from storage.errors import KeyInProgress, KeyOfAnotherRequest
from storage.models import IdempotencyKey
from storage.store.part import StorePart

KEPT = timedelta(hours=24)
"""How long a key and its answer are kept."""

IN_PROGRESS = timedelta(seconds=30)
"""After so long without an answer, the process that had the request has died."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The request is to be carried out; what it makes gets this id, however often it is tried."""

    resource: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The request was carried out before; this was its answer."""

    status: int
    body: str


class IdempotencyKeyStore(StorePart):
    """The keys of programs, each known to its token alone."""

    def begin(self, token_id: int, key: str, fingerprint: bytes) -> Reserved | Answered:
        """Begin a request; raises KeyInProgress, and KeyOfAnotherRequest.

        One whose process has died before it was answered is begun again, with the same id.
        """

        def work(connection: Connection) -> Reserved | Answered:
            moment = self._now()
            old = col(IdempotencyKey.created_at) < moment - KEPT
            connection.execute(delete(IdempotencyKey).where(old))
            new = insert(IdempotencyKey).values(
                token_id=token_id,
                key=key,
                fingerprint=fingerprint,
                resource=new_id(),
                began_at=moment,
                created_at=moment,
            )
            added = new.on_conflict_do_nothing().returning(col(IdempotencyKey.resource))
            resource = connection.execute(added).scalar()
            if resource is not None:
                return Reserved(resource)
            mine = _this(token_id, key)
            row = connection.execute(select(IdempotencyKey).where(*mine).with_for_update()).first()
            if row is None:  # it was released at this moment
                raise KeyInProgress
            if row.fingerprint != fingerprint:
                raise KeyOfAnotherRequest
            if row.status is not None:
                return Answered(row.status, row.body)
            if row.began_at > moment - IN_PROGRESS:
                raise KeyInProgress
            connection.execute(update(IdempotencyKey).where(*mine).values(began_at=moment))
            return Reserved(row.resource)

        return self._database.write(work)

    def finish(self, token_id: int, key: str, status: int, body: str) -> None:
        """Keep the answer."""
        given = update(IdempotencyKey).where(*_this(token_id, key))
        self._database.write(lambda c: c.execute(given.values(status=status, body=body)))

    def release(self, token_id: int, key: str) -> None:
        """Forget a key whose request was refused, so that nothing was made."""
        self._database.write(
            lambda c: c.execute(delete(IdempotencyKey).where(*_this(token_id, key)))
        )

    def interrupt(self, token_id: int, key: str) -> None:
        """Let the request be begun again at once: whether it was carried out is not known."""
        given = update(IdempotencyKey).where(*_this(token_id, key))
        self._database.write(
            lambda c: c.execute(given.values(began_at=self._now() - 2 * IN_PROGRESS))
        )


def _this(token_id: int, key: str) -> tuple[Any, ...]:
    return col(IdempotencyKey.token_id) == token_id, col(IdempotencyKey.key) == key
