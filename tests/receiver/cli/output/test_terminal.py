"""Output where the terminal is not UTF-8, closed, or full: no traceback, nothing half done."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from receiver.cli.output.terminal import read_as_utf8, take_any_terminal
from receiver.errors import UsageError
from receiver.sandbox import SandboxServer
from storage import Store
from tests.processes import COMMAND, DEADLINE
from tests.receiver import working

pytestmark = pytest.mark.one_database  # no SQL is at stake

running_sender, sender = working.running_sender, working.sender

NAME = "Zürich ☃"
ASCII = [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]


def started(*arguments: str, stdout: int, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code of a command as a process, and what it wrote on standard error."""
    ended = subprocess.run(  # noqa: S603  our own program
        [*COMMAND, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **(env or {})},
        timeout=DEADLINE,
        check=False,
    )
    return ended.returncode, ended.stderr.decode()


@pytest.mark.parametrize("env", ASCII)
def test_ascii_terminal_gets_escapes(store: Store, env: dict[str, str]) -> None:
    with Path("out").open("wb") as out:
        ended = started(
            "token", "create", "--name", NAME, "--scope", "read", stdout=out.fileno(), env=env
        )
        assert ended[0] == 0
        assert started("token", "list", stdout=out.fileno(), env=env) == (0, "")
    assert store.tokens.list_all()[0]["name"] == NAME
    assert b"Z\\xfcrich \\u2603" in Path("out").read_bytes()


@pytest.mark.usefixtures("store")
def test_error_on_ascii_terminal_is_one_sentence() -> None:
    code, err = started("batch", "show", NAME, stdout=subprocess.DEVNULL, env=ASCII[0])
    assert (code, err[:34]) == (2, "resultsink: There is no batch Z\\xf")
    assert err.count("\n") == 1


def test_stream_takes_what_it_has_no_letters_for(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = io.BytesIO()
    out = io.TextIOWrapper(kept, encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", out)
    take_any_terminal()
    out.write(NAME)
    out.buffer.write(NAME.encode())  # an export: bytes, whatever the terminal is
    out.flush()
    assert kept.getvalue() == NAME.encode() + b"Z\xfcrich \\u2603"


def test_arguments_are_read_as_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = NAME.encode().decode("ascii", "surrogateescape")  # as in the locale C
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii", "surrogateescape"))
    assert read_as_utf8(["--name", typed]) == ["--name", NAME]
    with pytest.raises(UsageError, match="is not UTF-8: write it in UTF-8"):
        read_as_utf8(["\udcff"])


def test_name_of_a_file_stays_as_it_is() -> None:
    name = os.fsdecode(b"t\xff.csv")
    Path(name).touch()
    assert read_as_utf8([name]) == [name]


@pytest.fixture
def full() -> int:
    """A file that takes nothing."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    return os.open("/dev/full", os.O_WRONLY)


@pytest.fixture
def closed() -> int:
    """A pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    return write


def test_closed_pipe_ends_quietly(store: Store, closed: int) -> None:
    working.known(store, "batch_1")
    for command in ("batch list", "batch list --json", "export --all", "--help"):
        code, err = started(*command.split(), stdout=closed)
        assert (code, "Traceback" in err, "Exception" in err) == (1, False, False)
    os.close(closed)


def test_full_output_is_one_sentence(store: Store, full: int) -> None:
    working.known(store, "batch_1")
    assert started("batch", "list", "--json", stdout=full) == (
        1,
        "resultsink: The system refused: No space left on device.\n",
    )
    code, err = started("export", "--all", stdout=full)
    assert (code, err.count("\n"), "cannot be written" in err) == (2, 1, True)
    os.close(full)


def test_batch_is_completed_though_nobody_reads_its_id(
    configured: Callable[..., None], sender: SandboxServer, closed: int
) -> None:
    configured(sources__valyu__base_url=sender.api_url)
    Path("tasks.csv").write_text("query\none\ntwo\n")
    code, err = started("batch", "create", "valyu", "--tasks", "tasks.csv", stdout=closed)
    os.close(closed)
    (batch,) = sender.state()["batches"]
    assert (code, batch["counts"]["total"]) == (0, 2)
    assert f"Standard output cannot be written (Broken pipe): this is {batch['batch_id']}." in err
