"""Database URLs: which kind they name, and libpq's form with several servers.

SQLAlchemy reads `postgresql://USER@A:5432,B:5433/NAME` only where the servers stand in its query.
"""

import re

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from storage.errors import CannotOpen

_SEVERAL = re.compile(
    r"(?P<scheme>[\w+]+://)(?P<user>[^/?]*@)?(?P<servers>[^/?@]*,[^/?@]*)(?P<rest>.*)"
)
_SERVER = re.compile(r"(?:\[([^][]+)]|([^][:]*))(?::(\d*))?")


def kind_of(url: str) -> str:
    """`sqlite` or `postgresql`; raises CannotOpen for any other database."""
    kind = parsed(url).get_backend_name()
    if kind == "postgres":
        return "postgresql"
    if kind not in ("sqlite", "postgresql"):
        raise CannotOpen(
            f"The database kind {kind!r} is not supported: write sqlite:///FILE, "
            "or postgresql://USER@HOST/NAME."
        )
    return kind


def parsed(url: str) -> URL:
    """Return the URL, several servers as `host` and `port` of its query; raises CannotOpen."""
    try:
        found = _SEVERAL.fullmatch(url)
        return make_url(url) if found is None else _with_several(found)
    except (ArgumentError, ValueError):  # a port that is no number, a bracket that is not closed
        raise CannotOpen(  # without the URL: what stands in it may be a password
            "The database URL is not one: write sqlite:///FILE, or postgresql://USER@HOST/NAME "
            "(several servers: HOST1:PORT1,HOST2:PORT2) with %40 for an @, %3A for a : and %2F for "
            "a / in a password."
        ) from None


def _with_several(found: re.Match[str]) -> URL:
    servers = [_SERVER.fullmatch(server) for server in found["servers"].split(",")]
    if not all(servers):
        raise ValueError("a server is not HOST or HOST:PORT")
    hosts = [server[1] or server[2] for server in servers if server]
    ports = [server[3] or "" for server in servers if server]
    one = make_url(f"{found['scheme']}{found['user'] or ''}{found['rest']}")
    return one.update_query_dict(
        {"host": ",".join(hosts), **({"port": ",".join(ports)} if any(ports) else {})}
    )
