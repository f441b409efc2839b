"""Places for the data of a service: a file of its own, or a database of a Postgres server."""

from dataclasses import dataclass
from pathlib import Path

import storage
from tests.chaos.books import Books
from tests.chaos.postgres import Server
from tests.databases import require

SQLITE, POSTGRES = "SQLite", "Postgres"


@dataclass(frozen=True)
class Place:
    """A database for one scenario. The books are read past whatever stands before a server."""

    kind: str
    url: str
    books_url: str
    folder: Path
    key: str | None = None
    server: Server | None = None

    @property
    def is_shared(self) -> bool:
        """True if several processes may serve it at once."""
        return self.kind == POSTGRES

    @property
    def settings(self) -> dict[str, str]:
        """The settings that name it."""
        keys = {} if self.key is None else {"encryption_keys": self.key}
        return {"database_url": self.url, **keys}

    @property
    def database(self) -> Path:
        """The file, where it is one."""
        assert self.kind == SQLITE
        return self.folder / "resultsink.db"

    @property
    def books(self) -> Books:
        return Books(self.books_url)


def in_a_file(folder: Path) -> Place:
    """A file that is made by whoever opens it first; the key stands beside it."""
    require("sqlite")
    path = folder / "resultsink.db"
    # not mode=ro: what a kill has left in the log is read only by who may make its index
    return Place(SQLITE, f"sqlite:///{path}", f"sqlite:///{path}?timeout=10", folder)


def on_a_server(server: Server, folder: Path, *, port: int | None = None) -> Place:
    """An empty database of a server, with its schema; `port` is that of a proxy before it."""
    name = server.new_database()
    url = server.url(name, port=port)
    place = Place(POSTGRES, url, server.url(name), folder, storage.new_key(), server)
    upgrade(place)
    return place


def upgrade(place: Place) -> None:
    """Make the schema, past whatever stands before the server."""
    assert place.key is not None
    storage.upgrade(place.books_url, [place.key])
