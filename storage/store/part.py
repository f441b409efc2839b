"""The base of the classes that open transactions for one noun each."""

from datetime import datetime

from storage.database import Database
from storage.encryption import Vault


class StorePart:
    """The verbs of one noun, over one database."""

    def __init__(self, database: Database, vault: Vault) -> None:
        self._database = database
        self._vault = vault

    def _now(self) -> datetime:
        return self._database.now()
