"""The durable truth: synchronous, knows SQL, knows no HTTP. `open` is the only way in."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from storage.batches.arrivals import Arrivals, SenderCounts
from storage.batches.batches import Watched
from storage.batches.ledger import Ledger, UnstoredRun
from storage.batches.submissions import NewSubmission, StoredTask, Submission
from storage.batches.unfinished import Tally
from storage.batches.webhooks import Webhooks
from storage.database import DEFAULT_SCHEMA, kind_of, now, open_database, upgrade_server
from storage.database.sqlite.files import sqlite_path
from storage.database.sqlite.recognition import look
from storage.deliveries.dead_letters import BatchDeadLetter, DeadLetter, LastAttempt
from storage.deliveries.events import AttemptRow, DeliveryRow, EventDetail, EventRow, JobRow
from storage.deliveries.quarantine import RejectedDetail, RejectedRow, UnverifiedDelivery
from storage.deliveries.recording import VerifiedDelivery
from storage.deliveries.replays import EventFilter, Matching, MatchingEvent
from storage.encryption import Vault, new_key, read_or_make_keys
from storage.endpoints.endpoints import MAX_SECRETS, EndpointView, SigningSecret
from storage.endpoints.reencryption import UnreadableSecret
from storage.endpoints.secrets import EndpointListing, SecretRow
from storage.errors import (
    AlreadyServed,
    CannotOpen,
    CannotStore,
    CopyFailed,
    DiskFull,
    ExportChanged,
    KeyInProgress,
    KeyOfAnotherRequest,
    LeaseLost,
    NewerSchema,
    NoDatabase,
    NotFound,
    SecretRefused,
    StorageError,
    SubmissionTaken,
    TokenExpired,
    WrongKey,
)
from storage.export import FORMATS, CsvOptions, ExportReport, Gaps, Selection
from storage.fetched import TERMINAL, UNTYPED, FetchedBatch, FetchedRun, SubmittedRun
from storage.jobs.checks import NextLook
from storage.jobs.lease import LEASE_SECONDS, RENEW_SECONDS, AttemptOutcome, Lease
from storage.jobs.pauses import PausedSource
from storage.jobs.progress import ListingProgress, Progress
from storage.migrations import HEAD as SCHEMA
from storage.models import WAYS, FoundBy
from storage.retention import AGE_OF, KINDS, Ages, Step
from storage.runs.compared import ComparedRun, NamedRun
from storage.runs.results import Stored
from storage.runs.rows import RunRow
from storage.runs.runs import KnownRun
from storage.runs.views import RunFacts
from storage.store import Store
from storage.store.check_jobs import FIRST_CHECK
from storage.store.idempotency_keys import Answered, Reserved
from storage.store.keys import Rekeyed
from storage.store.new_batches import NewBatchRow
from storage.store.story import MAX_MISSING_RUNS, BatchStory
from storage.store.submissions import EndpointPlan
from storage.store.unfinished import Check
from storage.tokens import NewToken, TokenRow, TokenView

if TYPE_CHECKING:
    from storage.copying import Copied, CopyReport, Progressed, copy
else:

    def __getattr__(name: str) -> object:
        """Load the copying when it is used: one command needs it, and all would wait for it."""
        if name in {"Copied", "CopyReport", "Progressed", "copy"}:
            from storage import copying

            return getattr(copying, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AGE_OF",
    "DEFAULT_SCHEMA",
    "FIRST_CHECK",
    "FORMATS",
    "KINDS",
    "LEASE_SECONDS",
    "MAX_MISSING_RUNS",
    "MAX_SECRETS",
    "RENEW_SECONDS",
    "SCHEMA",
    "TERMINAL",
    "UNTYPED",
    "WAYS",
    "Ages",
    "AlreadyServed",
    "Answered",
    "Arrivals",
    "AttemptOutcome",
    "AttemptRow",
    "BatchDeadLetter",
    "BatchStory",
    "CannotOpen",
    "CannotStore",
    "Check",
    "ComparedRun",
    "Copied",
    "CopyFailed",
    "CopyReport",
    "CsvOptions",
    "DeadLetter",
    "DeliveryRow",
    "DiskFull",
    "EndpointListing",
    "EndpointPlan",
    "EndpointView",
    "EventDetail",
    "EventFilter",
    "EventRow",
    "ExportChanged",
    "ExportReport",
    "FetchedBatch",
    "FetchedRun",
    "FoundBy",
    "Gaps",
    "JobRow",
    "KeyInProgress",
    "KeyOfAnotherRequest",
    "KnownRun",
    "LastAttempt",
    "Lease",
    "LeaseLost",
    "Ledger",
    "ListingProgress",
    "Matching",
    "MatchingEvent",
    "NamedRun",
    "NewBatchRow",
    "NewSubmission",
    "NewToken",
    "NewerSchema",
    "NextLook",
    "NoDatabase",
    "NotFound",
    "PausedSource",
    "Progress",
    "Progressed",
    "RejectedDetail",
    "RejectedRow",
    "Rekeyed",
    "Reserved",
    "RunFacts",
    "RunRow",
    "SecretRefused",
    "SecretRow",
    "Selection",
    "SenderCounts",
    "SigningSecret",
    "Step",
    "StorageError",
    "Store",
    "Stored",
    "StoredTask",
    "Submission",
    "SubmissionTaken",
    "SubmittedRun",
    "Tally",
    "TokenExpired",
    "TokenRow",
    "TokenView",
    "UnreadableSecret",
    "UnstoredRun",
    "UnverifiedDelivery",
    "VerifiedDelivery",
    "Watched",
    "Webhooks",
    "WrongKey",
    "copy",
    "new_key",
    "now",
    "open",
    "upgrade",
]


def open(
    url: str,
    keys: Sequence[str] = (),
    *,
    schema: str = DEFAULT_SCHEMA,
    serve: bool = False,
    create: bool = True,
    direct_url: str | None = None,
    first_check: timedelta = FIRST_CHECK,
) -> Store:
    """Open the database at `url`; `serve` claims a file alone, or joins those who serve a server.

    On Postgres everything is in `schema`. A file's tables are brought up to date, a server's only
    by `upgrade`. `keys` encrypt the signing secrets, newest first. Without any, the key file beside
    a SQLite database is used, and made together with a new database; there is none with
    `create=False`. `direct_url` leads to the same server past a pooler, for what needs a session.
    What is made here is first checked after `first_check`. Raises CannotOpen or one of its kinds
    (AlreadyServed, NewerSchema, NoDatabase, WrongKey), each with a sentence that says what to do.
    """
    if kind_of(url) == "sqlite":
        path = sqlite_path(url)
        is_new = look(path) is None
        if is_new and not create:
            raise NoDatabase(
                f"There is no database {path} yet: `resultsink serve`, `batch create` or `endpoint "
                "add` makes it, unless RESULTSINK_DATABASE_URL should name another."
            )
        keys = keys or read_or_make_keys(path.with_suffix(".key"), may_make=is_new)
    vault = Vault(_needed(keys))
    database = open_database(url, schema=schema, serve=serve, direct_url=direct_url)
    try:
        return Store(database, vault, first_check=first_check)
    except BaseException:
        database.close()
        raise


def upgrade(url: str, keys: Sequence[str] = (), *, schema: str = DEFAULT_SCHEMA) -> str | None:
    """Make the tables at `url`, or bring them up to date, under a lock.

    Returns the schema that it had, or None. Raises CannotOpen or one of its kinds; nothing is
    changed then.
    """
    if kind_of(url) == "sqlite":
        before = look(sqlite_path(url))
    else:
        before = upgrade_server(url, schema, Vault(_needed(keys)))
    open(url, keys, schema=schema).close()  # leaves the canary of the key
    return before


def _needed(keys: Sequence[str]) -> Sequence[str]:
    if not keys:
        raise CannotOpen(
            "On Postgres the key that encrypts the secrets must be given: set "
            "RESULTSINK_ENCRYPTION_KEYS to 32 random bytes in url-safe base64, "
            "as `openssl rand -base64 32 | tr +/ -_` makes them."
        )
    return keys
