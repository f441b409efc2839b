"""The Store: each noun is an attribute, and its verbs are that attribute's methods.

Here transactions are opened and nouns are put together. Verbs that concern one noun alone are in
the noun's own folder. Methods block; those that write return after the COMMIT and raise CannotStore
(nothing was written) when there could be none.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from storage.database import Database, probe
from storage.deliveries.deliveries import DeliveryStore
from storage.deliveries.events import EventStore
from storage.deliveries.quarantine import QuarantineStore
from storage.deliveries.replays import ReplayStore
from storage.encryption import Vault
from storage.export import ExportStore
from storage.retention import RetentionStore
from storage.store.batches import BatchStore
from storage.store.check_jobs import FIRST_CHECK
from storage.store.endpoints import EndpointStore
from storage.store.idempotency_keys import IdempotencyKeyStore
from storage.store.jobs import JobStore
from storage.store.keys import KeyStore
from storage.store.results import ResultStore
from storage.store.runs import RunStore
from storage.store.sources import SourceStore
from storage.store.submissions import SubmissionStore
from storage.store.unfinished import UnfinishedStore
from storage.tokens import TokenStore


class Store:
    """The durable truth. Made by `storage.open`; safe to use from many threads."""

    def __init__(
        self, database: Database, vault: Vault, *, first_check: timedelta = FIRST_CHECK
    ) -> None:
        self.database = database
        self.vault = vault
        self.first_check = first_check
        self.keys = KeyStore(database, vault, first_check=first_check)
        self.keys.check()
        self.deliveries = DeliveryStore(database)
        self.events = EventStore(database)
        self.quarantine = QuarantineStore(database)
        self.replays = ReplayStore(database)
        self.endpoints = EndpointStore(database, vault, first_check=first_check)
        self.batches = BatchStore(database, vault, first_check=first_check)
        self.submissions = SubmissionStore(database, vault, first_check=first_check)
        self.runs = RunStore(database, vault, first_check=first_check)
        self.results = ResultStore(database, vault, first_check=first_check)
        self.jobs = JobStore(database, vault, first_check=first_check)
        self.sources = SourceStore(database, vault, first_check=first_check)
        self.unfinished = UnfinishedStore(database, vault, first_check=first_check)
        self.export = ExportStore(database)
        self.retention = RetentionStore(database)
        self.tokens = TokenStore(database)
        self.idempotency_keys = IdempotencyKeyStore(database, vault, first_check=first_check)

    def close(self) -> None:
        """Finish queued writes and close the database."""
        self.database.close()

    @property
    def name(self) -> str:
        """The database's address without a password, for logs."""
        return self.database.name

    @property
    def is_shared(self) -> bool:
        """True where several processes may serve this database at once."""
        return self.database.is_shared

    def is_served(self) -> bool:
        """Return True while some process serves this database."""
        return self.database.is_served()

    def now(self) -> datetime:
        """Return the time that all servers of this database agree upon: aware, in UTC."""
        return self.database.now()

    def hint(self) -> None:
        """Notify the workers of other processes that there may be work; never waits."""
        self.database.hint()

    def listen(self, on_notify: Callable[[], None]) -> None:
        """Call `on_notify`, on another thread, at each hint of another process."""
        self.database.listen(on_notify)

    def watch(self) -> AbstractContextManager[Callable[[], object]]:
        """Yield a cheap function whose value changes when another connection has committed."""
        return self.database.watch()

    def probe(self) -> None:
        """Write a few bytes, as the intake writes; raises CannotStore."""
        self.database.write(lambda c: probe.write(c, now=self.now()), urgent=True)
