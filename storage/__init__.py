"""The durable truth: synchronous, knows SQL, knows no HTTP. `open` is the only door."""

from collections.abc import Sequence
from pathlib import Path

from storage.batches import Ledger
from storage.database import Database, now, sqlite_path
from storage.deliveries import VerifiedDelivery
from storage.encryption import Vault, new_key, read_or_make_key
from storage.endpoints import EndpointView, SigningSecret
from storage.errors import (
    AlreadyServed,
    CannotOpen,
    CannotStore,
    DiskFull,
    ExportChanged,
    LeaseLost,
    NewerSchema,
    NotFound,
    StorageError,
    WrongKey,
)
from storage.export import FORMATS, ExportReport, Selection
from storage.fetched import TERMINAL, FetchedBatch, FetchedRun, SubmittedRun
from storage.jobs import LEASE_SECONDS, RENEW_SECONDS, Lease, Tried
from storage.quarantine import UnverifiedDelivery
from storage.results import Stored
from storage.store import Store

__all__ = [
    "FORMATS",
    "LEASE_SECONDS",
    "RENEW_SECONDS",
    "TERMINAL",
    "AlreadyServed",
    "CannotOpen",
    "CannotStore",
    "DiskFull",
    "EndpointView",
    "ExportChanged",
    "ExportReport",
    "FetchedBatch",
    "FetchedRun",
    "Lease",
    "LeaseLost",
    "Ledger",
    "NewerSchema",
    "NotFound",
    "Selection",
    "SigningSecret",
    "StorageError",
    "Store",
    "Stored",
    "SubmittedRun",
    "Tried",
    "UnverifiedDelivery",
    "VerifiedDelivery",
    "WrongKey",
    "new_key",
    "now",
    "open",
]


def open(url: str, keys: Sequence[str] = (), *, serve: bool = False) -> Store:
    """Open the database at `url`, bringing its schema up to date; `serve` claims it alone.

    `keys` encrypt the signing secrets, newest first. Without any, the key file beside the database
    is used, and made together with a new database. Raises CannotOpen or one of its kinds
    (AlreadyServed, NewerSchema, WrongKey), each with a sentence that says what to do.
    """
    path = sqlite_path(url)
    is_new = not path.exists() or path.stat().st_size == 0
    if not keys:
        keys = [read_or_make_key(_key_file(path), may_make=is_new)]
    vault = Vault(keys)
    database = Database(url, serve=serve)
    try:
        return Store(database, vault)
    except BaseException:
        database.close()
        raise


def _key_file(database: Path) -> Path:
    return database.with_suffix(".key")
