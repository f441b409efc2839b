"""The durable truth: synchronous, knows SQL, knows no HTTP. `open` is the only door."""

from collections.abc import Sequence
from pathlib import Path

from storage.batches import Ledger, Watched
from storage.database import Database, now
from storage.deliveries import VerifiedDelivery
from storage.encryption import Vault, new_key, read_or_make_key
from storage.endpoints import MAX_SECRETS, EndpointView, SigningSecret
from storage.errors import (
    AlreadyServed,
    CannotOpen,
    CannotStore,
    DiskFull,
    ExportChanged,
    LeaseLost,
    NewerSchema,
    NoDatabase,
    NotFound,
    SecretRefused,
    StorageError,
    WrongKey,
)
from storage.export import FORMATS, ExportReport, Selection
from storage.fetched import TERMINAL, FetchedBatch, FetchedRun, SubmittedRun
from storage.files import look, sqlite_path
from storage.jobs import LEASE_SECONDS, RENEW_SECONDS, Lease, Tried
from storage.quarantine import UnverifiedDelivery
from storage.results import Known as KnownRun
from storage.results import Stored
from storage.store import Store
from storage.tokens import NewToken, TokenView

__all__ = [
    "FORMATS",
    "LEASE_SECONDS",
    "MAX_SECRETS",
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
    "KnownRun",
    "Lease",
    "LeaseLost",
    "Ledger",
    "NewToken",
    "NewerSchema",
    "NoDatabase",
    "NotFound",
    "SecretRefused",
    "Selection",
    "SigningSecret",
    "StorageError",
    "Store",
    "Stored",
    "SubmittedRun",
    "TokenView",
    "Tried",
    "UnverifiedDelivery",
    "VerifiedDelivery",
    "Watched",
    "WrongKey",
    "new_key",
    "now",
    "open",
]


def open(url: str, keys: Sequence[str] = (), *, serve: bool = False, create: bool = True) -> Store:
    """Open the database at `url`, bringing its schema up to date; `serve` claims it alone.

    `keys` encrypt the signing secrets, newest first. Without any, the key file beside the database
    is used, and made together with a new database; there is none with `create=False`. Raises
    CannotOpen or one of its kinds (AlreadyServed, NewerSchema, NoDatabase, WrongKey), each with a
    sentence that says what to do.
    """
    path = sqlite_path(url)
    is_new = look(path) is None
    if is_new and not create:
        raise NoDatabase(
            f"There is no database {path} yet: `resultsink serve`, `batch create` or `endpoint "
            "add` makes it, unless RESULTSINK_DATABASE_URL should name another."
        )
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
