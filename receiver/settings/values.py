"""Values that several settings are made of: lists, and addresses."""

import json
import re
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit


def split_values(given: Any) -> Any:
    """Split a text that holds several values: a JSON list, or values with spaces or commas.

    Returns what is no text as it is; raises ValueError.
    """
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith(("[", "{", '"')):
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError("it must be a JSON list, or values with spaces between") from None
    return given.replace(",", " ").split()


def plain_name(name: str) -> str:
    """Return the name of a schema of our own; raises ValueError."""
    if not re.fullmatch("[a-z_][a-z0-9_]{0,62}", name):
        raise ValueError("it is no plain name: write up to 63 of a-z, _ and, not first, 0-9")
    if name.startswith("pg_") or name == "information_schema":
        raise ValueError("it is a name of Postgres' own: write another")
    return name


def refuse_plain_http(url: str, why: str) -> None:
    """Raise ValueError for a URL that is neither https:// nor http:// to this machine."""
    parts = urlsplit(url)
    if not parts.hostname or parts.query or parts.fragment:
        raise ValueError("it is not an address: write https://HOST")
    try:
        parts.port  # noqa: B018  it is looked at only now
    except ValueError:
        raise ValueError("it has a port that is no number up to 65535") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(
            f"it must begin with https://, {why} (http is for a sandbox on this machine only)"
        )


def is_loopback(host: str) -> bool:
    """Return True if a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
