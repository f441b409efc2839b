"""A disk that loses what was not synced: what is left of a database when the power fails."""

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.chaos.traces import Record


class Disk:
    """The files of one folder as a trace changes them, and as a loss of power would leave them.

    A write is kept once a sync that began after it is done; a new file once its folder is synced.
    """

    def __init__(self, folder: Path) -> None:
        """Begin with the files as they are in the folder now."""
        self.version = 0
        self._folder = str(folder)
        self._written = {
            str(path): bytearray(path.read_bytes())
            for path in folder.iterdir()
            if path.suffix == ".db" or path.name.endswith("-wal")
        }
        self._synced = {path: bytes(data) for path, data in self._written.items()}
        self._named = set(self._written)
        self._begun: dict[int, bytes] = {}

    def apply(self, record: Record) -> None:
        """Let happen what a record tells; other kinds than W, T, S and D change nothing."""
        if record.path == self._folder and record.kind == "D":
            self._named |= set(self._written)
            self.version += 1
        elif record.path.endswith((".db", "-wal")):
            self._change(record, self._written.setdefault(record.path, bytearray()))

    def _change(self, record: Record, file: bytearray) -> None:
        if record.kind == "W":
            file.extend(bytes(max(0, record.offset - len(file))))
            file[record.offset : record.offset + len(record.data)] = record.data
        elif record.kind == "T":
            del file[record.offset :]
        elif record.kind == "S":
            self._begun[record.descriptor] = bytes(file)
        elif record.kind == "D":
            self._synced[record.path] = self._begun.pop(record.descriptor)
            self.version += 1

    def after_power_loss(self, folder: Path) -> set[bytes]:
        """The digests of the deliveries that the database holds when it is opened again."""
        folder.mkdir()
        for path in self._named & self._synced.keys():
            (folder / Path(path).name).write_bytes(self._synced[path])
        with closing(sqlite3.connect(folder / "resultsink.db")) as connection:
            return {digest for (digest,) in connection.execute("SELECT digest FROM deliveries")}
