"""A network that fails: a TCP proxy that falls silent, or cuts its connections, and goes on."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.processes import DEADLINE, HOST, until

PIECE = 65536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: whatever is left is dropped, and the peer has a RST


class Proxy:
    """Forwards to a port or a socket file of this machine, until a method says otherwise.

    It does so in a thread of its own.
    """

    def __init__(self, target: int | str) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._refuses = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        until(lambda: self.port)

    def fall_silent(self) -> None:
        """Forward nothing more; connections stay, new ones are taken, and neither side notices."""
        self._call(self._open.clear)

    def go_on(self) -> None:
        """Forward again, what came meanwhile too."""
        self._call(self._resume)

    def go_on_anew(self) -> None:
        """Forward what is connected from now on: who was connected before waits for ever."""
        self._call(self._forget)

    def cut(self) -> None:
        """Reset all connections, and every new one, until it goes on."""
        self._call(self._cut)

    def lead_to(self, target: int) -> None:
        """Forward new connections to another port; those that are there stay where they are."""
        self._target = target

    def close(self) -> None:
        self._call(self._loop.stop)
        self._thread.join()

    def _call(self, work: Callable[[], None]) -> None:
        done = threading.Event()

        def call() -> None:
            work()
            done.set()

        self._loop.call_soon_threadsafe(call)
        assert done.wait(DEADLINE)

    def _resume(self) -> None:
        self._refuses = False
        self._open.set()

    def _forget(self) -> None:
        self._open = asyncio.Event()  # the pumps of old wait for the other one
        self._resume()

    def _cut(self) -> None:
        self._refuses = True
        for writer in self._writers:
            _reset(writer)

    # --- in the thread -------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, HOST, 0))
        self.port = server.sockets[0].getsockname()[1]
        self._loop.run_forever()
        server.close()
        for writer in self._writers:
            _reset(writer)
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _reset(writer)
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        gate = self._open
        await gate.wait()
        try:
            if isinstance(self._target, str):
                onward, back = await asyncio.open_unix_connection(self._target)
            else:
                onward, back = await asyncio.open_connection(HOST, self._target)
        except OSError:
            _reset(writer)
            return
        self._pump(reader, back, gate)
        self._pump(onward, writer, gate)

    def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        self._writers.add(writer)
        task = self._loop.create_task(self._forward(reader, writer, gate))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while piece := await reader.read(PIECE):
                await gate.wait()
                writer.write(piece)
                await writer.drain()
        await gate.wait()  # an end is news, too
        self._writers.discard(writer)
        with suppress(OSError):
            writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
