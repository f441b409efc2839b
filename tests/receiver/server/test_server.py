"""The server over real sockets: what never becomes a request costs little and ends soon."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import storage
from receiver.errors import UsageError
from receiver.server import listen
from tests import databases
from tests.databases import Maker
from tests.processes import until
from tests.receiver.conftest import (
    BATCH,
    DEADLINE,
    SOON,
    add_endpoint,
    batch_body,
    events,
    fetches,
    locked,
    signed,
)

MAX_CONNECTIONS = 12
BODY = batch_body()

# The receiver as it is served, with shorter limits for a connection that stalls.
PROGRAM = """
from receiver import server
from receiver.cli import main
server.HEAD_SECONDS = 0.3
server.KEEP_ALIVE_SECONDS = 2.5
main()
"""


@dataclass(frozen=True)
class Serving:
    """A receiver in a process of its own, and its database as another process sees it."""

    port: int
    store: storage.Store
    log: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def endpoint(self) -> str:
        return add_endpoint(self.store)

    def say(self, *parts: bytes) -> bytes:
        """Everything that is answered to these bytes until the connection ends."""
        with self.connect() as connection:
            for part in parts:
                with contextlib.suppress(ConnectionError):  # it may have been refused by now
                    connection.sendall(part)
            return rest(connection)


def rest(connection: socket.socket) -> bytes:
    """Read until the connection ends, in whichever way it does."""
    found = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            found += part
    return found


def head(path: str, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a.test", *lines, "", ""]).encode()


def request(endpoint_id: str, body: bytes = BODY, *more: str) -> bytes:
    proof = [f"{name.decode()}: {value.decode()}" for name, value in signed(body)]
    length = f"Content-Length: {len(body)}"
    return head(f"/webhooks/valyu/{endpoint_id}", length, *proof, *more) + body


@pytest.fixture(scope="module")
def serving(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("named-like-a-secret")
    with maker.made(folder) as url, served(url, folder) as serving:
        yield serving


@contextlib.contextmanager
def served(url: str, folder: Path) -> Iterator[Serving]:
    """A receiver to whom the folder's name is a secret."""
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if "RESULTSINK" not in name},
        "PYTHONPATH": str(Path(__file__).parents[3]),
        **databases.variables(url),
        "RESULTSINK_MAX_CONNECTIONS": str(MAX_CONNECTIONS),
        "RESULTSINK_SOURCES__VALYU__MAX_BODY_BYTES": "4096",
        "RESULTSINK_SOURCES__VALYU__SIGNING_SECRETS": folder.name,
    }
    command = [sys.executable, "-c", PROGRAM, "serve", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stderr=log)  # noqa: S603
    wait_for(port)
    with databases.opened(url) as store:
        yield Serving(port, store, folder / "log")
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 0


def wait_for(port: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port)).close()
            return
        time.sleep(0.02)
    pytest.fail("the server did not start")


def test_a_webhook_is_taken_over_a_real_connection(serving: Serving) -> None:
    answer = serving.say(request(serving.endpoint(), BODY, "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'{"status": "accepted"}')
    assert b"server:" not in answer.lower()
    assert fetches(serving.store)[-1] == ("batch", BATCH)


def test_a_connection_is_kept_for_the_next_request(serving: Serving) -> None:
    endpoint_id = serving.endpoint()
    answer = serving.say(request(endpoint_id), request(endpoint_id, BODY, "Connection: close"))
    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("half", [b"", b"POST /webhooks/valyu HTTP/1.1\r\nHost: a.t"])
def test_a_head_that_never_ends_is_closed(serving: Serving, half: bytes) -> None:
    began = time.monotonic()
    assert serving.say(half) == b""
    assert time.monotonic() - began < SOON


def test_a_trickling_head_gets_no_more_time(serving: Serving) -> None:
    began = time.monotonic()
    with serving.connect() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"POST / HTTP/1.1\r\n")
        while True:
            assert time.monotonic() - began < SOON
            connection.sendall(b"a: b\r\n")
            time.sleep(0.05)


def test_second_head_of_a_connection_is_watched(serving: Serving) -> None:
    began = time.monotonic()
    answer = serving.say(head("/healthz", method="GET"), b"GET / HT")
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert time.monotonic() - began < SOON


def test_a_head_without_bound_is_cut(serving: Serving) -> None:
    lines = ["Connection: close", *[f"x-{number}: {'y' * 60_000}" for number in range(50)]]
    assert serving.say(head("/healthz", lines[0], method="GET")).startswith(b"HTTP/1.1 200")
    answer = serving.say(head("/healthz", *lines, method="GET"))
    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"connection: close\r\n" in answer


def test_head_is_bounded_however_it_is_cut(serving: Serving) -> None:
    large = head("/healthz", f"x: {'y' * 70_000}", method="GET")
    for parts in ([large], [large[:-2], large[-2:]], [large[:100], large[100:]]):
        assert serving.say(*parts).startswith(b"HTTP/1.1 431")
    allowed = head("/healthz", f"x: {'y' * 60_000}", "Connection: close", method="GET")
    assert serving.say(allowed).startswith(b"HTTP/1.1 200")


def test_too_many_headers_are_refused(serving: Serving) -> None:
    many = [f"x-{number}: y" for number in range(300)]
    answer = serving.say(head("/healthz", *many, "Content-Length: 9") + b"more")
    assert answer.startswith(b"HTTP/1.1 431")


def test_requests_before_a_refusal_are_answered(serving: Serving) -> None:
    endpoint_id = serving.endpoint()
    for refused in (head("/", f"x: {'y' * 70_000}"), b"\xff\r\n\r\n"):
        answer = serving.say(request(endpoint_id) * 2 + refused)
        last = b"431" if b"x" in refused else b"400"
        assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"200", last]


OFFERS = [
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAA"),
    ("Connection: upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    ("Connection: keep-alive", "Connection: Upgrade", "Upgrade: h2c, TLS/1.0"),
]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("step", [1 << 20, 700, 40])
def test_offer_of_another_protocol_is_ignored(
    serving: Serving, offer: tuple[str, ...], step: int
) -> None:
    before, body = len(events(serving.store)), batch_body(f"completed {offer} {step}")
    data = request(serving.endpoint(), body, *offer) + head(
        "/healthz", "Connection: close", method="GET"
    )
    answer = serving.say(*[data[at : at + step] for at in range(0, len(data), step)])
    assert answer.count(b"HTTP/1.1 200 OK") == (1 if "close" in offer[0] else 2)
    assert answer.count(b'{"status": "') == 1
    assert len(events(serving.store)) == before + 1


def test_offer_beside_expect_gets_100_first(serving: Serving) -> None:
    whole = request(serving.endpoint(), BODY, *OFFERS[0], "Expect: 100-continue")
    with serving.connect() as connection:
        connection.sendall(whole[: -len(BODY)])
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_many_offers_in_a_row_are_all_answered(serving: Serving) -> None:
    offer = head("/healthz", *OFFERS[0], method="GET")
    last = head("/healthz", "Connection: close", method="GET")
    assert serving.say(offer * 100 + last).count(b"HTTP/1.1 200 OK") == 101


def test_connect_is_no_request_for_us(serving: Serving) -> None:
    assert serving.say(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n").startswith(
        b"HTTP/1.1 400"
    )


def test_a_refusal_before_the_body_ends_the_connection(serving: Serving) -> None:
    url = f"/webhooks/valyu/{serving.endpoint()}"
    cases = {
        b"404": head("/webhooks/valyu/unknown", "Content-Length: 5000"),
        b"405": head(url, "Content-Length: 5000", method="PUT"),
        b"413": head(url, "Content-Length: 5000"),
        b"415": head(url, "Content-Length: 5000", "Content-Encoding: gzip"),
    }
    for status, unfinished in cases.items():
        answer = serving.say(unfinished)  # ends though not a byte of the body was sent
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close" in answer.lower()


def test_a_chunked_body_without_end_is_refused(serving: Serving) -> None:
    url = f"/webhooks/valyu/{serving.endpoint()}"
    before = len(events(serving.store))
    chunk = b"400\r\n" + b"x" * 1024 + b"\r\n"
    with serving.connect() as connection:
        connection.sendall(head(url, "Transfer-Encoding: chunked") + chunk * 5)
        assert rest(connection).startswith(b"HTTP/1.1 413")
    assert len(events(serving.store)) == before


def test_a_chunked_body_is_taken_whole(serving: Serving) -> None:
    url = f"/webhooks/valyu/{serving.endpoint()}"
    body = batch_body(completed_at="chunks")
    proof = [f"{name.decode()}: {value.decode()}" for name, value in signed(body)]
    parts = [b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])]
    lines = ("Transfer-Encoding: chunked", "Connection: close", *proof)
    answer = serving.say(head(url, *lines), *parts, b"0\r\n\r\n")
    assert answer.endswith(b'{"status": "accepted"}')
    assert events(serving.store)[-1]["deliveries"][0]["body"] == body


def chunked(path: str, *lines: str) -> bytes:
    return head(path, "Transfer-Encoding: chunked", "Connection: close", *lines)


def test_trailers_without_bound_are_cut(serving: Serving) -> None:
    proof = [f"{name.decode()}: {value.decode()}" for name, value in signed(BODY)]
    begun = chunked(f"/webhooks/valyu/{serving.endpoint()}", *proof)
    begun += b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    assert b" 200 OK" in serving.say(begun, b"x: y\r\n" * 1_000, b"\r\n")
    assert serving.say(begun, *[b"x: y\r\n" * 10_000] * 20, b"\r\n") == b""


def test_trailers_prove_no_delivery(serving: Serving) -> None:
    proof = b"".join(b"%b: %b\r\n" % header for header in signed(BODY))
    begun = chunked(f"/webhooks/valyu/{serving.endpoint()}")
    answer = serving.say(begun + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(BODY), BODY, proof))
    assert answer.startswith(b"HTTP/1.1 401")


def test_unread_body_ends_with_the_answer(serving: Serving) -> None:
    answer = serving.say(
        head("/healthz", "Transfer-Encoding: chunked", method="GET"), b"1\r\na\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200")  # and the connection ended, though no end was sent


def test_what_becomes_no_further_request_is_closed(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(head("/healthz", method="GET"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(b"\r\n")
        assert b"HTTP" not in rest(connection)


def test_unused_connection_is_closed(serving: Serving) -> None:
    with serving.connect() as connection:
        connection.sendall(request(serving.endpoint()))
        answer = b""
        while not answer.endswith(b'"}'):  # its head and its body may come one by one
            answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 OK")
        began = time.monotonic()
        assert rest(connection) == b""
        assert 1 < time.monotonic() - began < SOON


def test_request_is_answered_though_another_began(serving: Serving) -> None:
    request_twice = request(serving.endpoint()) * 2 + head("/", "Connection: close", method="GET")
    assert serving.say(request_twice[:-2], b"\r\n").count(b"HTTP/1.1 200 OK") == 2


def test_server_outlives_what_is_no_http(serving: Serving) -> None:
    for garbage in (b"\x16\x03\x01\x00", b"\xff" * 100, b"POST \xff HTTP/1.1\r\n\r\n", b"\r\n" * 9):
        serving.say(garbage)
    assert serving.say(head("/healthz", "Connection: close", method="GET")).startswith(
        b"HTTP/1.1 200"
    )


def test_sender_that_leaves_early_has_delivered(serving: Serving) -> None:
    endpoint_id = serving.endpoint()
    with locked(serving.store):
        with serving.connect() as connection:
            connection.sendall(request(endpoint_id, b"left early"))
            time.sleep(0.2)
        time.sleep(0.1)
    until(lambda: b"left early" in bodies(serving))


def bodies(serving: Serving) -> list[bytes]:
    return [each["body"] for event in events(serving.store) for each in event["deliveries"]]


def test_connection_beyond_the_limit_is_a_503(
    serving: Serving,
) -> None:
    endpoint_id = serving.endpoint()
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            stack.enter_context(serving.connect())
        answer = serving.say(request(endpoint_id))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 5\r\n" in answer
    again = request(endpoint_id, BODY, "Connection: close")
    until(lambda: b"200 OK" in serving.say(again))  # once it has seen that the others have left


def test_flood_of_bad_requests_is_one_line(serving: Serving) -> None:
    for _ in range(50):
        serving.say(b"\xff" * 10)
    until(lambda: "Invalid HTTP request" in serving.log.read_text())
    assert serving.log.read_text().count("Invalid HTTP request") == 1


@pytest.mark.sqlite
def test_configured_secret_stays_out_of_the_log(serving: Serving) -> None:
    serving.say(b"no request")
    until(lambda: "/[hidden]/resultsink.db" in serving.log.read_text())
    assert serving.log.parent.name not in serving.log.read_text()


def test_a_port_that_is_taken_is_one_sentence() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as caught:
            listen("127.0.0.1", port)
    assert str(caught.value).startswith(f"Cannot listen on 127.0.0.1:{port}: Address already in")
    assert "--port" in str(caught.value)


@pytest.mark.parametrize("host", ["not an address", "203.0.113.1", "::gg"])
def test_foreign_address_is_one_sentence(host: str) -> None:
    with pytest.raises(UsageError, match="Choose another --host"):
        listen(host, 0)


def test_ipv6_can_be_listened_on() -> None:
    with listen("::1", 0) as listening:
        assert listening.family == socket.AF_INET6
