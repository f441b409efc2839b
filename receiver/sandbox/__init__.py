"""Simulated senders over real HTTP, on this machine only: Valyu and Parallel, by their contracts.

It imports nothing of `receiver` or `storage` and signs with its own code, so that a mistake made
once can not pass on both sides. The official SDKs are run against it in tests/sandbox.
"""

from receiver.sandbox.app import create_sandbox
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
