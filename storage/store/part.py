"""The base of the classes that open transactions for one noun each."""

from datetime import datetime, timedelta

from storage.database import Database
from storage.encryption import Vault


class StorePart:
    """The verbs of one noun, over one database."""

    def __init__(self, database: Database, vault: Vault, *, first_check: timedelta) -> None:
        """`first_check` is how long after its start a batch or an endpoint is first checked."""
        self._database = database
        self._vault = vault
        self._first_check = first_check

    def _now(self) -> datetime:
        return self._database.now()
