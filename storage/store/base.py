"""What all verbs of the Store need: the database and the vault."""

from pathlib import Path

from sqlalchemy import Connection, select
from sqlmodel import col

from storage.database import Database, insert, now
from storage.encryption import CANARY, Vault
from storage.errors import WrongKey
from storage.files import is_served
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
        """Finish queued writes and let go of the file."""
        self.database.close()

    @property
    def path(self) -> Path:
        """The database's file."""
        return self.database.path

    def is_served(self) -> bool:
        """Whether some process serves this database now."""
        return is_served(self.database.path)

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
        if not self._knows_key(connection):
            value = self.vault.encrypt(CANARY).decode()
            connection.execute(insert(Meta).values(key="canary", value=value))

    def probe(self) -> None:
        """Really write something, always the same row; raises CannotStore."""
        self.database.write(
            lambda c: c.execute(
                insert(Meta)
                .values(key="probe", value="1")
                .on_conflict_do_update(index_elements=["key"], set_={"value": str(now())})
            )
        )
