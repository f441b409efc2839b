"""Simulated senders over real HTTP, on this machine only: Valyu and Parallel, by their contracts.

The sandbox imports nothing else of `receiver` and nothing of `storage`, and signs with its own
code, so that one mistake cannot be on both sides. tests/receiver/sandbox runs the official SDKs
against it.
"""

from typing import TYPE_CHECKING

from receiver.sandbox.clock import ManualClock, SandboxClock
from receiver.sandbox.switches import (
    Fault,
    SandboxError,
    Switches,
    assignments,
    described,
    parse,
)

if TYPE_CHECKING:
    from receiver.sandbox.app import create_sandbox
    from receiver.sandbox.server import SandboxServer, run, serve_in_thread
else:

    def __getattr__(name: str) -> object:
        """Load the server when it is used: the help names switches alone."""
        if name == "create_sandbox":
            from receiver.sandbox import app

            return app.create_sandbox
        if name in ("SandboxServer", "run", "serve_in_thread"):
            from receiver.sandbox import server

            return getattr(server, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Fault",
    "ManualClock",
    "SandboxClock",
    "SandboxError",
    "SandboxServer",
    "Switches",
    "assignments",
    "create_sandbox",
    "described",
    "parse",
    "run",
    "serve_in_thread",
]
