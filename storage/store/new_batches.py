"""A batch that was just created, and runs that were just added to it, within a transaction."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from storage.batches import batches
from storage.batches import ledger as ledgers
from storage.encryption import Vault
from storage.errors import NotFound
from storage.fetched import SubmittedRun
from storage.store.attach import attach
from storage.store.check_jobs import watch


@dataclass(frozen=True, slots=True)
class NewBatchRow:
    """The rows of a batch that was just created; the endpoint of its own gets the secret."""

    endpoint_id: str | None = None
    secret: str | None = field(default=None, repr=False)
    name: str | None = None
    runner: str | None = None
    task_id: str | None = None
    defaults: Mapping[str, Any] | None = None


def register(
    connection: Connection,
    vault: Vault,
    source: str,
    batch_id: str,
    new: NewBatchRow,
    *,
    moment: datetime,
    first: timedelta,
) -> None:
    """Add a batch that was just created, with a check."""
    if new.endpoint_id is not None:
        attach(connection, vault, new.endpoint_id, batch_id, secret=new.secret, now=moment)
    batches.register(
        connection,
        source=source,
        batch_id=batch_id,
        endpoint_id=new.endpoint_id,
        name=new.name,
        runner=new.runner,
        task_id=new.task_id,
        defaults=new.defaults,
        now=moment,
    )
    if new.endpoint_id is None:
        watch(connection, ledgers.ledger(connection, source, batch_id), moment, first=first)


def add_runs(
    connection: Connection,
    *,
    vault: Vault,
    source: str,
    batch_id: str,
    runs: Sequence[SubmittedRun],
    submitted: int = 0,
    moment: datetime,
    first: timedelta,
) -> None:
    """Expect runs that the sender accepted, bind their endpoints, and have the batch checked."""
    batches.add_runs(connection, source, batch_id, runs, submitted=submitted)
    for run in runs:
        if run.endpoint_id is not None:
            with suppress(NotFound):  # an early callback has bound it to another run already
                attach(connection, vault, run.endpoint_id, run.run_id, now=moment)
    watched = batches.watched(connection, source, batch_id)
    if watched is not None:
        watch(connection, watched, moment, first=first)
