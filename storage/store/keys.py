"""The encryption keys of a database: the canary by which one is recognised, and their rotation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, select, update
from sqlmodel import col

from storage.database import insert
from storage.encryption import CANARY
from storage.endpoints import reencryption
from storage.endpoints.reencryption import UnreadableSecret
from storage.errors import WrongKey
from storage.models import Meta
from storage.store.part import StorePart

STEP_SECRETS = 100
"""Secrets that are encrypted again in one transaction; acks come between two."""

_IS_CANARY = col(Meta.key) == "canary"


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """Counts of the secrets encrypted again, opened by the first key now, and left as they are."""

    changed: int
    readable: int
    unreadable: tuple[UnreadableSecret, ...]


class KeyStore(StorePart):
    """The encryption keys of the database."""

    def check(self) -> None:
        """Compare the canary with our keys, or leave one in a new database; raises WrongKey."""
        with self._database.read() as connection:
            has_canary = self._canary(connection) is not None
        if not has_canary:
            self._database.write(self._leave_canary)

    def rekey(self, on_step: Callable[[int], None] = lambda seen: None) -> Rekeyed:
        """Encrypt the canary and all secrets under the first key, so that it alone opens them.

        Each step is a transaction of its own: an interrupted call has done a part, and another one
        does the rest. All is looked at again until nothing is left to do, since a process that
        serves meanwhile may add secrets. `on_step` gets the number of secrets that were seen.
        """
        changed = 0
        while True:
            found = self._pass(on_step)
            changed += found.changed
            if not found.changed:
                self._database.write(self._renew_canary)
                return Rekeyed(changed, found.readable, found.unreadable)

    def forget(self, unreadable: Sequence[UnreadableSecret]) -> None:
        """Delete secrets whose key is lost, so that their endpoints can get others."""
        for start in range(0, len(unreadable), STEP_SECRETS):
            step = unreadable[start : start + STEP_SECRETS]
            self._database.write(partial(reencryption.forget, unreadable=step))

    def _pass(self, on_step: Callable[[int], None]) -> Rekeyed:
        after = changed = readable = 0
        unreadable: list[UnreadableSecret] = []
        while True:
            with self._database.read() as connection:
                found = reencryption.look(connection, self._vault, after=after, limit=STEP_SECRETS)
            if found.last is None:
                return Rekeyed(changed, readable, tuple(unreadable))
            if found.renewed:
                self._database.write(partial(reencryption.renew, renewed=found.renewed))
            after = found.last
            changed += len(found.renewed)
            readable += found.kept + len(found.renewed)
            unreadable += found.unreadable
            on_step(readable + len(unreadable))

    def _canary(self, connection: Connection) -> bytes | None:
        """Return the canary, encrypted; raises WrongKey where it is not ours."""
        canary = connection.execute(select(col(Meta.value)).where(_IS_CANARY)).scalar()
        if canary is not None and self._vault.decrypt(canary.encode()) != CANARY:
            raise WrongKey("The canary of this database is not ours: restore it from a backup.")
        return None if canary is None else canary.encode()

    def _leave_canary(self, connection: Connection) -> None:
        value = self._vault.encrypt(CANARY).decode()
        connection.execute(insert(Meta).values(key="canary", value=value).on_conflict_do_nothing())
        self._canary(connection)  # another process may have been quicker

    def _renew_canary(self, connection: Connection) -> None:
        canary = self._canary(connection)
        if canary is not None and not self._vault.is_under_first(canary):
            value = self._vault.encrypt(CANARY).decode()
            connection.execute(update(Meta).where(_IS_CANARY).values(value=value))
