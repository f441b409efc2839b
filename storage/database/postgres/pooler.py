"""A pooler before the server, such as PgBouncer: recognised, and used without a session.

A pooler in transaction mode lends a connection of its own for each transaction. What belongs to the
session (settings, prepared statements, LISTEN, locks of the session) would be left to others there.
"""

from collections.abc import Mapping
from typing import Any

_OPTIONS = {"timezone": "UTC", "datestyle": "ISO"}

_COMMIT = "current_setting('synchronous_commit')"
_SAFE_COMMIT = f"CASE {_COMMIT} WHEN 'off' THEN 'on' ELSE {_COMMIT} END"
""""Acknowledged after COMMIT" must hold when the server's machine fails."""


def settings(options: Mapping[str, str], *, is_local: bool) -> str:
    """Return the SELECT that sets options, which are our own, for a session or a transaction."""
    values = {name: f"'{value}'" for name, value in {**_OPTIONS, **options}.items()}
    values["synchronous_commit"] = _SAFE_COMMIT
    scope = str(is_local).lower()
    calls = [f"set_config('{name}', {value}, {scope})" for name, value in values.items()]
    return f"SELECT {', '.join(calls)}"


def set_up(raw: Any, in_session: str) -> None:
    """Run `in_session` on a new connection to a server; prepare no statements through a pooler.

    A server names the process that serves the connection; a pooler makes a number up, since that
    process changes.
    """
    itself = raw.info.backend_pid
    found = raw.execute(f"{in_session} WHERE pg_backend_pid() = %s", [itself]).fetchone()
    raw.commit()  # a rollback would undo it
    if found is None:
        raw.prepare_threshold = None


def has_session(raw: Any) -> bool:
    """Return True for a connection to a server, False through a pooler."""
    return raw.prepare_threshold is not None


def pools_statements(error: BaseException) -> bool:
    """Return True where a pooler refuses transactions, since it pools single statements."""
    return "statement pooling mode" in str(getattr(error, "orig", None) or error)
