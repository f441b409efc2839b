"""The sandbox as a process: found by its first line, on this machine only, and nothing of ours."""

import ast
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import receiver.sandbox
from receiver.sandbox import SandboxError, run, serve_in_thread
from tests.processes import DEADLINE

MODULE = [sys.executable, "-m", "receiver.sandbox"]


@contextmanager
def process(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The sandbox as others start it; it is stopped with the block."""
    pipe = subprocess.PIPE
    with subprocess.Popen([*MODULE, *arguments], stdout=pipe, stderr=pipe, text=True) as started:  # noqa: S603 (our own)
        try:
            yield started
        finally:
            started.terminate()


def test_process_prints_url_and_takes_switches() -> None:
    with process("--port", "0", "--set", "copies=3") as started:
        assert started.stdout is not None
        url = json.loads(started.stdout.readline())["url"]
        state = httpx.get(f"{url}/_sandbox/state", trust_env=False).json()
    assert state["switches"]["copies"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "this machine only"),  # noqa: S104 (that it is refused)
        (["--set", "copys=3"], "copys"),
        (["--set", "copies"], "name=value"),
    ],
)
def test_wrong_use_ends_with_2(arguments: list[str], said: str) -> None:
    with process(*arguments) as started:
        _, errors = started.communicate(timeout=DEADLINE)
    assert started.returncode == 2
    assert said in errors.splitlines()[-1]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.1", "example.com", ""])  # noqa: S104
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(SandboxError, match="this machine only"):
        run(host)


def test_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SandboxError, match=f"cannot listen on 127.0.0.1:{port}"):
            run(port=port)


def test_threaded_sandbox_ends_with_block() -> None:
    with serve_in_thread() as sandbox:
        assert sandbox.state()["batches"] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(sandbox.url, trust_env=False)


def test_the_sandbox_imports_nothing_of_ours() -> None:
    imported: set[str] = set()
    for file in Path(receiver.sandbox.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported.update(name.name for name in node.names)
    ours = {name for name in imported if re.match(r"(receiver|storage)\b", name)}
    assert all(name.startswith("receiver.sandbox") for name in ours)
