"""Connections with a session of their own, for what a pooler cannot share."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from storage.database.errors import reason
from storage.database.postgres.engine import shown_name
from storage.database.postgres.pooler import has_session
from storage.errors import CannotOpen

IDENTITY = (
    "SELECT oid, pg_postmaster_start_time() FROM pg_database WHERE datname = current_database()"
)
"""Tells a database of a running server from all others."""


def connect_alone(engine: Engine) -> Any:
    """Return a psycopg connection that belongs to no pool, in autocommit.

    Raises CannotOpen where it leads to a pooler.
    """
    connection = engine.raw_connection()
    raw: Any = connection.driver_connection
    connection.detach()
    if not has_session(raw):
        raw.close()
        raise CannotOpen(
            "RESULTSINK_DATABASE_DIRECT_URL leads to a pooler: name the server itself there, "
            "or leave it unset."
        )
    raw.autocommit = True
    return raw


@contextmanager
def naming_direct_url(engine: Engine) -> Iterator[None]:
    """Raise CannotOpen, which names the setting, where the engine's server cannot be reached."""
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        raise CannotOpen(
            f"RESULTSINK_DATABASE_DIRECT_URL leads to {shown_name(engine.url)}, which cannot be "
            f"opened: {reason(error)}. Look at it, and whether the server runs."
        ) from error
