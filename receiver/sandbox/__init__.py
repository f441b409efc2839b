"""Simulated senders over real HTTP, on this machine only: Valyu and Parallel, by their contracts.

The sandbox imports nothing else of `receiver` and nothing of `storage`, and signs with its own
code, so that one mistake cannot be on both sides. tests/receiver/sandbox runs the official SDKs
against it.
"""

from receiver.sandbox.app import create_sandbox
from receiver.sandbox.clock import ManualClock, SandboxClock
from receiver.sandbox.server import SandboxServer, run, serve_in_thread
from receiver.sandbox.switches import (
    Fault,
    SandboxError,
    Switches,
    assignments,
    described,
    parse,
)

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
