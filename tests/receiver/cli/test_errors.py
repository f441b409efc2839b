"""Impossible commands end in one sentence that says what to do, and leave nothing half done."""

import socket
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import storage
from receiver.app import Role
from receiver.cli import serve
from receiver.cli.options import MAX_ID
from receiver.sandbox import SandboxServer
from receiver.settings import load
from tests.behind import Lock
from tests.databases import opened
from tests.receiver import working
from tests.receiver.cli.conftest import Run

running_sender, sender = working.running_sender, working.sender

Configure = Callable[..., None]
DATABASE = "sqlite:///resultsink.db"
ENDPOINT = "AAAAAAAAAAAAAAAAAAAAAA"


def there() -> AbstractContextManager[storage.Store]:
    """The store that commands have; a file is made."""
    return opened(load().database_url)


def make_database() -> None:
    """A database without a row in it."""
    with there():
        pass


@pytest.fixture(autouse=True)
def tasks_csv() -> None:
    """A good tasks file in the working directory."""
    Path("tasks.csv").write_text("query\none\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("batch show batch_1", "There is no batch batch_1: see `batch list`."),
        ("batch wait batch_1", "There is no batch batch_1: see `batch list`."),
        ("batch cancel batch_1", "There is no batch batch_1: see `batch list`."),
        ("batch status batch_1", "There is no batch batch_1: see `batch list`."),
        ("batch add batch_1 --tasks tasks.csv", "There is no batch batch_1: see `batch list`."),
        ("export --batch batch_1", "There is no batch batch_1: see `batch list`."),
        ("export", "Say what to export: --batch ID, --run ID, --source SOURCE, or --all."),
        ("export --all --run r", "Leave out --all to export a part: --all is every source."),
        (
            "export --batch b --run r",
            "Say --batch or --run, not both: a run is exported by its own id.",
        ),
        (
            "export --all --bom --format json",
            "Leave out --bom: it is for CSV, and json must not have one.",
        ),
        (
            "export --source nope",
            "There is no source 'nope' (configured: valyu): add [sources.nope] with provider = "
            '"parallel" or "parallel-v0" or "valyu" to resultsink.toml, or set '
            'RESULTSINK_SOURCES__NOPE__PROVIDER to "parallel" or "parallel-v0" or "valyu", and '
            "RESULTSINK_SOURCES__NOPE__API_KEY.",
        ),
        ("event show 7", "There is no event 7: see `event list`."),
        (
            "dead replay 7",
            "There is no dead letter 7 that can be replayed: see `dead list`.",
        ),
        (
            f"endpoint secret {ENDPOINT}",
            f"There is no open endpoint {ENDPOINT}: see `endpoint list`.",
        ),
        (
            f"endpoint close {ENDPOINT}",
            f"There is no open endpoint {ENDPOINT}: see `endpoint list`.",
        ),
        ("batch create valyu --tasks none.csv", "none.csv does not exist."),
        (
            "batch create valyu --tasks tasks.csv --output-schema tasks.csv",
            "The output schema tasks.csv cannot be read: "
            "Expecting value: line 1 column 1 (char 0).",
        ),
        (
            "batch create valyu --tasks tasks.csv --mode instant",
            "The batch was not created: "
            "the mode 'instant' is not one of fast, standard, heavy, max.",
        ),
        (
            "sandbox --set hold=Perhaps",
            "Hold: Input should be a valid boolean, unable to interpret input.",
        ),
        ("sandbox --set hold", "Write a switch as name=value, not 'hold'."),
    ],
)
@pytest.mark.usefixtures("configured")
def test_unknown_ids_are_named(run: Run, arguments: str, sentence: str) -> None:
    make_database()
    ended = run(*arguments.split())
    assert (ended.code, ended.sentence) == (2, sentence)


@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize("command", ["batch create nope --tasks tasks.csv", "endpoint add nope"])
def test_unknown_source_says_how_to_configure_it(run: Run, command: str) -> None:
    ended = run(*command.split())
    assert ended.code == 2
    assert ended.sentence.startswith("There is no source 'nope' (configured: valyu): add ")
    assert not Path("resultsink.db").exists()


def test_missing_key_names_its_variable(run: Run, configured: Configure) -> None:
    configured(sources__valyu__api_key=None, sources__valyu__provider="valyu")
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
    assert ended.code == 2
    assert "set RESULTSINK_SOURCES__VALYU__API_KEY" in ended.sentence


def test_wrong_api_key_quotes_the_sender(
    run: Run, configured: Configure, sender: SandboxServer
) -> None:
    configured(sources__valyu__base_url=sender.api_url, sources__valyu__api_key="wrong_secret_key")
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
    assert (ended.code, ended.sentence) == (
        1,
        "The batch was not created: the sender answered 401: Invalid API key.",
    )
    with there() as store:
        assert [endpoint["state"] for endpoint in store.endpoints.list_all()] == ["closed"]
        assert {job["status"] for job in working.jobs(store)} == {"done"}


def test_unreachable_sender_leaves_nothing(run: Run, configured: Configure) -> None:
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
    assert "The batch was not created: the sender could not be asked" in ended.sentence
    assert ended.code == 1


def test_unsendable_value_leaves_nothing(run: Run, configured: Configure) -> None:
    ended = run("task", "create", "valyu", "--query", "q", "--set", r'metadata={"a": "\ud800"}')
    assert ended.code == 1
    assert ended.sentence.startswith("The task was not created: what is asked for cannot be sent")
    with there() as store:
        assert [endpoint["state"] for endpoint in store.endpoints.list_all()] == ["closed"]
        assert store.submissions.list_all() == []


@pytest.mark.parametrize(
    "arguments",
    [
        *("task create valyu --query", "batch show", "batch list --source", "event replay --batch"),
        *("endpoint add valyu --resource", "batch create valyu --tasks tasks.csv --name"),
    ],
)
@pytest.mark.usefixtures("configured")
def test_argument_that_is_no_text_is_refused(run: Run, arguments: str) -> None:
    ended = run(*arguments.split(), "caf\udce9")  # a byte that is no UTF-8
    assert (ended.code, ended.sentence) == (
        2,
        r"The argument 'caf\udce9' is not UTF-8: write it in UTF-8.",
    )
    assert not Path("resultsink.db").exists()


@pytest.mark.usefixtures("configured")
def test_file_name_may_be_any_bytes(run: Run) -> None:
    name = "caf\udce9.json"
    Path(name).write_text('{"type": "object"}')
    for option in (["--output-schema", name], [f"--output-schema={name}"]):
        ended = run("task", "create", "valyu", "--query", "q", *option)
        assert "The task was not created: the sender could not be asked" in ended.sentence


def test_lost_answer_exits_1(run: Run, configured: Configure, sender: SandboxServer) -> None:
    configured(sources__valyu__base_url=sender.api_url)
    sender.add_fault("POST /deepresearch/batches", kind="html")
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
    assert (ended.code, "answer to the create call was lost" in ended.sentence) == (1, True)
    sender.add_fault("POST /deepresearch/batches/*/tasks", status=402)
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
    assert (ended.code, "0 of 1 tasks were added" in ended.err) == (1, True)


def test_missing_public_url_names_its_variable(run: Run, configured: Configure) -> None:
    configured(public_url=None)
    ended = run("batch", "create", "valyu", "--tasks", "tasks.csv")
    assert (ended.code, "set RESULTSINK_PUBLIC_URL" in ended.sentence) == (2, True)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "public_url",
            "http://hooks.example.com",
            "public_url is wrong: it must begin with https://",
        ),
        (
            "public_url",
            "hooks.example.com",
            "public_url is wrong: it is not an address: write https://HOST",
        ),
        ("database_url", "nonsense", "The database URL is not one"),
        ("database_url", "mysql://x", "'mysql' is not supported"),
        ("database_url", "sqlite://", "A database in memory would lose what it acknowledged"),
        ("database_url", "sqlite:////no/such/folder/x.db", "/no/such/folder does not exist"),
        ("database_schema", "A b", "database_schema is wrong: it is no plain name: write up to"),
        ("database_schema", "pg_x", "database_schema is wrong: it is a name of Postgres' own"),
        ("encryption_keys", "[", "encryption_keys is wrong: it must be a JSON list, or values"),
        ("log_level", "loud", "The setting log_level is wrong"),
        ("max_connections", "0", "The setting max_connections is wrong"),
        ("sources__valyu__concurrency", "none", "The setting sources.valyu.concurrency is wrong"),
        ("sources__valyu__colour", "red", "sources.valyu.colour is wrong: there is no such"),
        (
            "sources__valyu__base_url",
            "http://api.valyu.ai",
            "the API key would travel in the clear",
        ),
        ("sources__valyu__provider", "acme", "'acme' is not one of"),
        ("sources__valyu__signing_secrets", '["short"]', "sources.valyu.signing_secrets is wrong"),
        ("sources", "{", "The settings cannot be read"),
        ("config", "none.toml", "The settings file none.toml does not exist"),
        ("encryption_keys", "short", "An encryption key is not valid"),
        ("public_url_file", "none.txt", "RESULTSINK_PUBLIC_URL_FILE names cannot be read"),
    ],
)
def test_wrong_setting_is_named(
    run: Run, configured: Configure, name: str, value: str, sentence: str
) -> None:
    configured(**{name: value})
    ended = run("serve", "--port", "0")
    assert ended.code in (1, 2)
    assert sentence in ended.sentence
    assert not Path("resultsink.db").exists()


def test_broken_toml_is_named(run: Run) -> None:
    Path("resultsink.toml").write_text("public_url = \n")
    ended = run("batch", "list")
    assert (ended.code, "settings cannot be read" in ended.sentence) == (2, True)


# --- the database ---------------------------------------------------------------------------------


@pytest.mark.sqlite
@pytest.mark.usefixtures("configured")
@pytest.mark.parametrize(
    "command",
    [
        *("batch list", "batch show b", "batch wait b", "batch status b", "batch cancel b"),
        *("batch add b --tasks tasks.csv", "event list", "event show 1", "dead list"),
        *("dead replay 1", "rejected list", "export --batch b", "endpoint list"),
        *(f"endpoint close {ENDPOINT}", f"endpoint secret {ENDPOINT}"),
    ],
)
def test_reading_commands_make_no_database(run: Run, command: str) -> None:
    ended = run(*command.split())
    assert (ended.code, ended.sentence) == (
        2,
        f"There is no database {Path('resultsink.db').absolute()} yet: `resultsink serve`, "
        "`batch create` or `endpoint add` makes it, "
        "unless RESULTSINK_DATABASE_URL should name another.",
    )
    assert [path.name for path in Path().iterdir()] == ["tasks.csv"]


def test_wrong_encryption_key_opens_nothing(run: Run, configure: Configure) -> None:
    make_database()
    configure(encryption_keys=storage.new_key())
    ended = run("batch", "list")
    assert (ended.code, "does not open this database" in ended.sentence) == (1, True)


def test_lost_key_file_is_named(run: Run) -> None:
    make_database()
    Path("resultsink.key").unlink()
    ended = run("batch", "list")
    assert (ended.code, "resultsink.key is missing" in ended.sentence) == (1, True)
    assert not Path("resultsink.key").exists()


def test_newer_database_is_left_alone(run: Run) -> None:
    make_database()
    with closing(sqlite3.connect("resultsink.db", isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    ended = run("batch", "list")
    assert (ended.code, "install the newer resultsink" in ended.sentence) == (1, True)


def test_other_file_is_left_alone(run: Run, configure: Configure) -> None:
    content = b"no database at all, only some words"
    configure(encryption_keys=storage.new_key())
    Path("resultsink.db").write_bytes(content)
    ended = run("batch", "list")
    assert (ended.code, "another program" in ended.sentence) == (1, True)
    assert Path("resultsink.db").read_bytes() == content


def test_other_program_s_database_is_left_alone(run: Run, configure: Configure) -> None:
    configure(encryption_keys=storage.new_key())
    with closing(sqlite3.connect("resultsink.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE theirs (id)")
    ended = run("batch", "list")
    assert (ended.code, "belongs to another program" in ended.sentence) == (1, True)
    with closing(sqlite3.connect("resultsink.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_folder_is_no_database(run: Run, configure: Configure) -> None:
    configure(encryption_keys=storage.new_key())
    Path("resultsink.db").mkdir()
    ended = run("batch", "list")
    assert (ended.code, "cannot be opened" in ended.sentence) == (1, True)


def test_served_database_is_not_served_twice(run: Run) -> None:
    with closing(storage.open(DATABASE, serve=True)):
        ended = run("serve", "--port", "0")
    assert (ended.code, "already serves" in ended.sentence) == (1, True)


@pytest.mark.usefixtures("impatient", "short_locks")
def test_locked_database_is_one_sentence(run: Run, configured: Configure) -> None:
    make_database()
    with closing(Lock(load().database_url)):
        ended = run("endpoint", "add", "valyu")
    assert (ended.code, "lock" in ended.sentence) == (1, True)


# --- the machine ----------------------------------------------------------------------------------


def test_a_port_in_use_is_named(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = run("serve", "--port", str(port))
        played = run("sandbox", "--port", str(port))
    assert ended.sentence == (
        f"Cannot listen on 127.0.0.1:{port}: Address already in use. "
        "Choose another --host or --port."
    )
    assert played.sentence == f"Cannot listen on 127.0.0.1:{port}: Address already in use."
    assert (ended.code, played.code) == (2, 2)


def test_sandbox_listens_on_loopback_only(run: Run) -> None:
    assert "0.0.0.0" in run("sandbox", "--host", "0.0.0.0").sentence  # noqa: S104


@pytest.mark.parametrize("target", ["none/results.csv", "folder"])
def test_failed_export_changes_no_file(run: Run, target: str) -> None:
    Path("folder").mkdir()
    with there() as store:
        working.known(store, "batch_1")
    ended = run("export", "--batch", "batch_1", "--output", target)
    assert ended.code == 2
    assert ended.sentence.startswith(f"{target} cannot be written: ")
    assert list(Path().glob(".*")) == []
    assert list(Path("folder").iterdir()) == []


@pytest.mark.parametrize(
    "arguments", ["", "nope", "batch nope", "batch create", "export --format xml", "event show x"]
)
def test_wrong_use_prints_the_usage(run: Run, arguments: str) -> None:
    ended = run(*arguments.split())
    assert ended.code == 2
    assert "Usage: " in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        *("rejected show", "rejected retry", "event show", "dead replay", "token revoke"),
        *(f"{group} list --limit" for group in ("batch", "task", "event", "rejected", "dead")),
    ],
)
@pytest.mark.parametrize("number", [0, 2**63, 10**30])
def test_impossible_numbers_are_wrong_use(run: Run, arguments: str, number: int) -> None:
    make_database()
    ended = run(*arguments.split(), str(number))
    assert (ended.code, "Invalid value for" in ended.err) == (2, True)


def test_the_largest_number_is_looked_for(run: Run) -> None:
    make_database()
    assert run("event", "show", str(MAX_ID)).sentence.startswith(f"There is no event {MAX_ID}")
    for group in ("batch", "task", "event", "rejected", "dead"):
        assert run(group, "list", "--limit", str(MAX_ID), "--json").out == "[]\n"


@pytest.mark.parametrize("command", ["batch wait b", "task wait t"])
@pytest.mark.parametrize("timeout", ["nan", "inf", "-1", "-inf"])
def test_a_timeout_is_a_duration(run: Run, command: str, timeout: str) -> None:
    make_database()
    ended = run(*command.split(), "--timeout", timeout)
    assert (ended.code, ended.sentence[:10]) == (2, "--timeout ")


@pytest.mark.sqlite
def test_roles_are_the_application_s() -> None:
    assert get_args(get_type_hints(serve.serve)["role"]) == tuple(Role)


@pytest.mark.sqlite
def test_role_on_sqlite_is_refused(run: Run) -> None:
    for role in ("intake", "worker"):
        ended = run("serve", "--role", role)
        assert (ended.code, "On SQLite one process does everything" in ended.sentence) == (2, True)
    assert not list(Path().glob("resultsink*"))
