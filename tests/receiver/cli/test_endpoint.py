"""resultsink endpoint: URLs for what other code creates, and secrets that are never shown."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import storage
from storage import Store
from tests.processes import DEADLINE, until
from tests.receiver import working
from tests.receiver.cli.conftest import Run
from tests.receiver.conftest import SECRET

# No SQL is at stake: the verbs of the store are tested on both databases in tests/storage.
pytestmark = [pytest.mark.one_database, pytest.mark.usefixtures("configured")]


def add(run: Run, *arguments: str, stdin: str = "") -> dict[str, str]:
    ended = run("endpoint", "add", "valyu", *arguments, "--json", stdin=stdin)
    assert (ended.code, ended.err) == (0, "")
    shown: dict[str, str] = json.loads(ended.out)
    return shown


def secrets(store: Store, endpoint_id: str) -> list[str]:
    endpoint = store.endpoints.find(endpoint_id)
    assert endpoint is not None
    return [secret.text for secret in endpoint.secrets]


def test_endpoint_with_a_secret_is_open(run: Run, store: Store) -> None:
    shown = add(run, "--resource", "batch_1", "--secret-stdin", stdin=f"{SECRET}\n")
    assert shown["path"] == f"/webhooks/valyu/{shown['endpoint']}"
    assert shown["url"] == f"http://127.0.0.1:9{shown['path']}"
    (endpoint,) = store.endpoints.list_all()
    assert (endpoint["state"], endpoint["resource"]) == ("open", "batch_1")
    assert secrets(store, shown["endpoint"]) == [SECRET]
    assert store.batches.ledger("batch_1").endpoint_id == shown["endpoint"]


def test_no_public_url_prints_a_path(
    run: Run, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RESULTSINK_PUBLIC_URL")
    assert add(run)["url"] is None
    ended = run("endpoint", "add", "valyu")
    assert ended.out.startswith("/webhooks/valyu/")
    assert "Set public_url to have the whole URL printed." in ended.err


def test_secret_comes_later_with_the_resource(run: Run, store: Store) -> None:
    added = run("endpoint", "add", "valyu", "--kind", "task")
    endpoint_id = added.out.strip().rsplit("/", 1)[1]
    assert added.err == f"Its secret is pending: resultsink endpoint secret {endpoint_id}\n"
    ended = run("endpoint", "secret", endpoint_id, "--resource", "t1", stdin=f"{SECRET}\r\n")
    assert (ended.code, ended.out, ended.err) == (0, "", f"Endpoint {endpoint_id} is open.\n")
    (endpoint,) = store.endpoints.list_all()
    assert (endpoint["state"], endpoint["resource"]) == ("open", "t1")


def test_older_secret_stays_valid(run: Run, store: Store) -> None:
    endpoint_id = add(run, "--secret-stdin", stdin=SECRET)["endpoint"]
    run("endpoint", "secret", endpoint_id, stdin=SECRET[::-1])
    assert secrets(store, endpoint_id) == [SECRET[::-1], SECRET]


@pytest.mark.parametrize("stdin", [f"{SECRET}\r\n\n", f"\n{SECRET}", f"{SECRET}\n \n"])
def test_empty_lines_around_a_secret_are_ignored(run: Run, store: Store, stdin: str) -> None:
    endpoint_id = add(run, "--secret-stdin", stdin=stdin)["endpoint"]
    assert secrets(store, endpoint_id) == [SECRET]


def test_only_rotation_restores_a_replaced_secret(run: Run, store: Store) -> None:
    endpoint_id = add(run, "--secret-stdin", stdin=SECRET)["endpoint"]
    run("endpoint", "rotate", endpoint_id, stdin=NEW)
    ended = run("endpoint", "secret", endpoint_id, stdin=SECRET)
    assert ended.code == 2
    assert ended.sentence.startswith("This secret was replaced: use `endpoint rotate` to bring it")
    assert run("endpoint", "rotate", endpoint_id, stdin=SECRET).code == 0
    assert secrets(store, endpoint_id) == [SECRET, NEW, SECRET]


def test_a_sixth_secret_is_refused(run: Run, store: Store) -> None:
    endpoint_id = add(run)["endpoint"]
    codes = [
        run("endpoint", "secret", endpoint_id, stdin=f"{SECRET}{number}").code
        for number in range(6)
    ]
    assert codes == [0] * 5 + [2]


def test_odd_secret_gets_a_warning(run: Run, store: Store, configure: Callable[..., None]) -> None:
    configure(sources__valyu__signing='{"scheme": "standard-webhooks"}')
    ended = run("endpoint", "add", "valyu", "--secret-stdin", stdin=SECRET)
    assert (ended.code, "The secret does not begin with whsec_" in ended.err) == (0, True)
    assert len(store.endpoints.list_all()) == 1


@pytest.mark.parametrize(
    "stdin",
    [
        *("", "\n", "short\n", f'"{SECRET}"\n', f" {SECRET}\n"),
        *(f"{SECRET}\n{SECRET[::-1]}\n", f"{SECRET}\r{SECRET}", "\n" * 70_000 + SECRET),
        f"https://{SECRET}",
    ],
)
def test_impossible_secret_is_not_repeated(run: Run, store: Store, stdin: str) -> None:
    endpoint_id = add(run)["endpoint"]
    ended = run("endpoint", "secret", endpoint_id, stdin=stdin)
    assert (ended.code, ended.sentence[:31]) == (2, "The secret was not registered: ")
    assert SECRET not in ended.sentence
    assert secrets(store, endpoint_id) == []
    assert run("endpoint", "add", "valyu", "--secret-stdin", stdin=stdin).code == 2
    assert len(store.endpoints.list_all()) == 1


def test_secret_for_another_resource_is_refused(run: Run, store: Store) -> None:
    endpoint_id = add(run, "--resource", "batch_1")["endpoint"]
    ended = run("endpoint", "secret", endpoint_id, "--resource", "batch_2", stdin=SECRET)
    assert (ended.code, "bound to another resource" in ended.sentence) == (2, True)
    assert secrets(store, endpoint_id) == []


def test_other_kind_is_named_with_its_option(run: Run, store: Store) -> None:
    ended = run("endpoint", "add", "valyu", "--kind", "run")
    assert (ended.code, ended.sentence) == (
        2,
        "Source valyu announces no run: use --kind account or batch or contents or task.",
    )


def test_task_is_refused_without_stored_tasks(run: Run, store: Store) -> None:
    bound = ["secret", add(run, "--resource", "b1")["endpoint"]]
    for arguments in (["add", "valyu"], bound):
        ended = run("endpoint", *arguments, "--task", "b2", stdin=SECRET)
        assert (ended.code, ended.sentence) == (
            2,
            "Source valyu has no stored tasks: leave the task out.",
        )
    (endpoint,) = store.endpoints.list_all()
    assert (endpoint["task_id"], endpoint["state"]) == (None, "pending")


@pytest.mark.parametrize("start", ["-D", "--", "-h"])
@pytest.mark.parametrize("command", ["secret", "rotate", "close"])
def test_id_may_begin_with_a_dash(run: Run, store: Store, command: str, start: str) -> None:
    ended = run("endpoint", command, start.ljust(22, "x"), stdin=SECRET)
    assert (ended.code, "see `endpoint list`" in ended.sentence) == (2, True)


def test_closed_endpoint_takes_no_secret(run: Run, store: Store) -> None:
    endpoint_id = add(run)["endpoint"]
    closed = run("endpoint", "close", endpoint_id)
    assert (closed.code, closed.err) == (0, f"Endpoint {endpoint_id} is closed.\n")
    assert run("endpoint", "secret", endpoint_id, stdin=SECRET).code == 2
    assert run("endpoint", "close", endpoint_id).code == 2
    assert working.job(store)["status"] == "done"


def test_known_batch_outlives_its_endpoint(run: Run, store: Store) -> None:
    run("endpoint", "close", add(run, "--resource", "batch_1")["endpoint"])
    assert working.job(store)["status"] == "pending"


@pytest.mark.sqlite
def test_list_shows_no_secrets(run: Run, store: Store) -> None:
    endpoint_id = add(run, "--secret-stdin", stdin=SECRET)["endpoint"]
    for ended in (run("endpoint", "list"), run("endpoint", "list", "--json")):
        assert endpoint_id in ended.out
        assert "open" in ended.out
        assert SECRET not in ended.out + ended.err
    assert b"5f1c0e9ab7d34826" not in Path(store.name).read_bytes()


# Typing.

PROGRAM = """
import signal
from receiver.__main__ import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
main()
"""


@pytest.fixture
def terminal() -> Iterator[int]:
    """A terminal that a command may read from."""
    ends = pty.openpty()
    yield ends[1]
    for end in ends:
        os.close(end)


def echoes(terminal: int) -> bool:
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


@pytest.mark.parametrize("command", ["add", "secret", "rotate"])
def test_ctrl_c_at_the_prompt_restores_the_echo(
    run: Run, store: Store, terminal: int, command: str
) -> None:
    arguments = ["valyu", "--secret-stdin"] if command == "add" else [add(run)["endpoint"]]
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-c", PROGRAM, "endpoint", command, *arguments],
        stdin=terminal,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # else the prompt opens the terminal of who runs the tests
    )
    until(lambda: not echoes(terminal))
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=DEADLINE)[1]
    assert (process.returncode, echoes(terminal)) == (1, True)
    assert said.endswith("Aborted!\n"), said


# Accounts.


def test_account_endpoint_takes_no_resource(run: Run, store: Store) -> None:
    shown = add(run, "--kind", "account", "--secret-stdin", stdin=SECRET)
    assert shown["path"] == f"/webhooks/valyu/{shown['endpoint']}"
    assert [(each["kind"], each["state"]) for each in store.endpoints.list_all()] == [
        ("account", "open")
    ]
    for arguments in (["add", "valyu", "--kind", "account"], ["secret", shown["endpoint"]]):
        ended = run("endpoint", *arguments, "--resource", "b", stdin=SECRET)
        assert ended.code == 2
        assert ended.sentence == (
            "An endpoint for the account is for no single resource: leave it out."
        )


def test_account_secrets_leave_none_pending(
    run: Run, store: Store, configure: Callable[..., None]
) -> None:
    Path("secrets.txt").write_text(SECRET)
    configure(sources__valyu__signing_secrets_file="secrets.txt")
    assert run("endpoint", "add", "valyu").err == ""


def test_unreadable_file_of_secrets_is_named(
    run: Run, store: Store, configure: Callable[..., None]
) -> None:
    configure(sources__valyu__signing_secrets_file="none.txt")
    ended = run("endpoint", "add", "valyu")
    assert ended.code == 2
    assert ended.sentence.startswith("The setting sources.valyu.signing_secrets_file is wrong: ")


# Rotation.

NEW = SECRET[::-1]


def test_rotated_secret_stays_valid_for_a_day(run: Run, store: Store) -> None:
    endpoint_id = add(run, "--secret-stdin", stdin=SECRET)["endpoint"]
    began = storage.now()
    ended = run("endpoint", "rotate", endpoint_id, stdin=f"{NEW}\n")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith(f"Endpoint {endpoint_id} has a new secret; the old ones stay valid")
    assert secrets(store, endpoint_id) == [NEW, SECRET]
    (endpoint,) = json.loads(run("endpoint", "list", "--json").out)
    new, old = endpoint["secrets"]
    assert (new["valid_until"], new["reading"]) == (None, None)
    day = datetime.fromisoformat(old["valid_until"]) - began
    assert timedelta(hours=24) <= day < timedelta(hours=24, minutes=1)
    assert "2, older until 20" in run("endpoint", "list").out


@pytest.mark.parametrize(
    "how", [["--keep", "0"], ["--keep", "7d"], ["--until", "2999-01-01T00:00Z"]]
)
def test_old_secret_ends_as_given(run: Run, store: Store, how: list[str]) -> None:
    endpoint_id = add(run, "--secret-stdin", stdin=SECRET)["endpoint"]
    assert run("endpoint", "rotate", endpoint_id, *how, stdin=NEW).code == 0
    view = store.endpoints.find(endpoint_id)
    assert view is not None
    ends = view.secrets[1].valid_until
    assert ends is not None
    assert (ends <= storage.now()) == (how == ["--keep", "0"])


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (
            ["--keep", "soon"],
            NEW,
            "--keep 'soon' is no duration: write it like 90m, 24h or 7d",
        ),
        (["--keep", "-5h"], NEW, "--keep '-5h' is no duration"),
        (["--until", "2020-01-01T00:00:00Z"], NEW, "--until '2020-01-01T00:00:00Z' has passed"),
        (["--keep", "1h", "--until", "2999-01-01T00:00:00Z"], NEW, "Say either --keep or --until"),
        ([], f'"{NEW}"', "The secret was not registered: the signing secret has quotes around it"),
        ([], "short", "The secret was not registered: the signing secret is too short"),
        ([], SECRET, "The secret was not replaced: it is the newest one already"),
    ],
)
def test_what_cannot_be_replaced_stays(
    run: Run, store: Store, arguments: list[str], stdin: str, sentence: str
) -> None:
    endpoint_id = add(run, "--secret-stdin", stdin=SECRET)["endpoint"]
    ended = run("endpoint", "rotate", endpoint_id, *arguments, stdin=stdin)
    assert ended.code == 2
    assert ended.sentence.startswith(sentence)
    assert secrets(store, endpoint_id) == [SECRET]
