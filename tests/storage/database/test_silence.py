"""A Postgres that lets us in and then says nothing more: nobody waits for it for ever."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest

import storage
from storage import CannotOpen
from storage.database.postgres import engine as postgres
from tests.databases import KEY
from tests.processes import DEADLINE

pytestmark = pytest.mark.postgres

WELCOME = b"".join(
    kind + struct.pack("!I", len(body) + 4) + body
    for kind, body in [
        (b"R", struct.pack("!I", 0)),  # AuthenticationOk
        (b"S", b"server_version\x0018.0\x00"),
        (b"S", b"client_encoding\x00UTF8\x00"),
        (b"Z", b"I"),  # ReadyForQuery
    ]
)


@pytest.fixture
def silent_url() -> Iterator[str]:
    """The URL of a server that answers the login, and nothing after it."""
    connections: list[socket.socket] = []

    def serve(listening: socket.socket) -> None:
        with suppress(OSError):  # of the end
            while True:
                connection, _ = listening.accept()
                connections.append(connection)
                while len(connection.recv(1024)) == 8:  # may it be encrypted?
                    connection.sendall(b"N")
                connection.sendall(WELCOME)

    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"postgresql://user@127.0.0.1:{listening.getsockname()[1]}/x"
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE)
    for connection in connections:
        connection.close()


def serving(url: str, keys: list[str]) -> Any:
    return storage.open(url, keys, serve=True)


@pytest.mark.parametrize("use", [storage.open, serving, storage.upgrade])
def test_server_silent_after_login_is_given_up(
    silent_url: str, use: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PREPARE_SECONDS", 0.5)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            use(silent_url, [KEY])
        except CannotOpen as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert "cannot be opened" in str(errors[0])


def test_copy_from_silent_server_is_given_up(
    silent_url: str, made_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PREPARE_SECONDS", 0.5)
    with pytest.raises(CannotOpen, match="cannot be opened"):
        storage.copy(silent_url, made_url, [KEY])
