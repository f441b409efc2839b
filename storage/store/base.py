"""What all verbs of the Store need: the database and the vault."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Connection, select
from sqlmodel import col

from storage.database import Database, insert
from storage.encryption import CANARY, Vault
from storage.errors import WrongKey
from storage.models import Meta


class Base:
    """An open database, proven to be ours by its canary."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self.database = database
        self.vault = vault
        with database.read() as connection:
            is_checked = self._knows_key(connection)
        if not is_checked:
            database.write(self._check_key)

    def close(self) -> None:
        """Finish queued writes and let go of the database."""
        self.database.close()

    @property
    def name(self) -> str:
        """Where the database is, for logs: without a password."""
        return self.database.name

    @property
    def is_shared(self) -> bool:
        """Whether several processes may serve this database at once."""
        return self.database.is_shared

    def is_served(self) -> bool:
        """Whether some process serves this database now."""
        return self.database.is_served()

    def now(self) -> datetime:
        """The clock that all who serve this database agree upon: an aware datetime in UTC."""
        return self.database.now()

    def hint(self) -> None:
        """Tell the workers of other processes that there may be work; never waits."""
        self.database.hint()

    def listen(self, heard: Callable[[], None]) -> None:
        """Have `heard` called, on another thread, at each hint of another process."""
        self.database.listen(heard)

    def _knows_key(self, connection: Connection) -> bool:
        """Whether there is a canary; raises WrongKey where our key does not open it."""
        canary = connection.execute(
            select(col(Meta.value)).where(col(Meta.key) == "canary")
        ).scalar()
        if canary is not None and self.vault.decrypt(canary.encode()) != CANARY:
            raise WrongKey("The canary of this database is not ours: restore it from a backup.")
        return canary is not None

    def _check_key(self, connection: Connection) -> None:
        """Leave a canary in a new database; another process may just have been quicker."""
        value = self.vault.encrypt(CANARY).decode()
        connection.execute(insert(Meta).values(key="canary", value=value).on_conflict_do_nothing())
        self._knows_key(connection)

    def probe(self) -> None:
        """Really write something, always the same row, as the intake does; raises CannotStore."""
        self.database.write(
            lambda c: c.execute(
                insert(Meta)
                .values(key="probe", value="1")
                .on_conflict_do_update(index_elements=["key"], set_={"value": str(self.now())})
            ),
            urgent=True,
        )
