"""Idle connections that are not used again: ended by the other side, or to a read-only server."""

import select
import time
from typing import Any

from storage.database.postgres.pooler import has_session

READ_ONLY_SECONDS = 5.0
"""How long a connection to a server that takes no writes is used: its name may lead elsewhere."""

_SAYS_READ_ONLY = ("in_hot_standby", "default_transaction_read_only")
"""What a server reports unasked, https://www.postgresql.org/docs/current/libpq-status.html."""


def is_spent(raw: Any, facts: dict[Any, Any]) -> bool:
    """Return True where a connection should be replaced; asks nobody, and accepts a new one.

    `facts` are kept with the connection, from its first use on.
    """
    moment = time.monotonic()
    first_use = facts.setdefault("first_use", moment)
    if first_use == moment:
        return False
    is_old = moment - first_use > READ_ONLY_SECONDS
    return raw.closed or _has_news(raw) or (is_old and _is_read_only(raw))


def _has_news(raw: Any) -> bool:
    """Return True if something came in while nothing was asked: as a rule, that it ends."""
    polled = select.poll()  # `select` refuses descriptors above 1023
    polled.register(raw.fileno(), select.POLLIN)
    return bool(polled.poll(0))


def _is_read_only(raw: Any) -> bool:
    """Return True if the server says so; what a pooler says may be of another server."""
    return has_session(raw) and "on" in map(raw.info.parameter_status, _SAYS_READ_ONLY)
