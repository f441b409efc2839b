"""Waits as processes: Ctrl-C, and a database that falls silent."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from sqlalchemy.engine import make_url

from storage import Store
from tests.chaos.proxy import Proxy
from tests.databases import KEY, url_of
from tests.processes import COMMAND, DEADLINE, environment
from tests.receiver.working import known


@contextmanager
def waiting(*command: str, settings: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A wait that has begun: it has said that nobody serves."""
    # a job in the background ignores SIGINT, and would hand that on
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(  # noqa: S603  our own program
        [*COMMAND, *command],
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        signal.signal(signal.SIGINT, before)
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("No receiver serves this database now")
            yield process
        finally:
            process.kill()


@pytest.mark.one_database
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ["batch", "wait", "batch_1", "--source", "valyu"],
            "The batch goes on at the sender, and `resultsink serve` stores the results as they "
            "arrive. To wait again: resultsink batch wait batch_1 --source valyu\n",
        ),
        (
            ["task", "wait", "t1"],
            "The task goes on at the sender, and `resultsink serve` stores the result when it "
            "arrives. To wait again: resultsink task wait t1\n",
        ),
    ],
)
def test_interrupt_says_how_to_wait_again(store: Store, command: list[str], said: str) -> None:
    known(store, "batch_1")
    expect(store)
    url = url_of(store)
    store.close()
    with waiting(*command, settings={"database_url": url}) as process:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out, err) == (130, "", said)


def expect(store: Store) -> None:
    """Expect a single task."""
    named = {"endpoint_id": None, "secret": None, "input": None, "runner": None}
    store.runs.expect("valyu", "t1", **named)


@pytest.mark.parametrize("command", [["batch", "wait", "batch_1"], ["task", "wait", "t1"]])
@pytest.mark.postgres
def test_silent_postgres_does_not_hold_the_wait(store: Store, command: list[str]) -> None:
    known(store, "batch_1")
    expect(store)
    url = make_url(url_of(store))
    store.close()
    port, folder = url.port or 5432, str(url.query.get("host", url.host))
    with closing(Proxy(f"{folder}/.s.PGSQL.{port}" if folder[0] == "/" else port)) as proxy:
        near = url.set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable"})
        settings = {
            "database_url": near.render_as_string(hide_password=False),
            "encryption_keys": KEY,
        }
        with waiting(*command, "--timeout", "6", settings=settings) as process:
            proxy.fall_silent()
            silent_since = time.monotonic()
            _, err = process.communicate(timeout=DEADLINE)
            took = time.monotonic() - silent_since
    assert process.returncode == 1
    assert err == "resultsink: The database does not answer; the time to wait is over.\n"
    assert took < 15  # when the connection would be given up
