"""Planned faults: their effects, the requests they hit, and how often."""

from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import httpx
import pytest
from valyu import Valyu

from receiver.sandbox import ManualClock, SandboxError, SandboxServer
from tests.processes import until
from tests.receiver.sandbox.conftest import Inbox

BATCHES = "/deepresearch/batches"


def test_a_fault_hits_as_often_as_ordered(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.add_fault(f"GET {BATCHES}", status=500, times=2, after=1)
    assert [http.get(BATCHES).status_code for _ in range(4)] == [200, 500, 500, 200]
    assert sandbox.state()["faults"] == []


def test_fault_hits_only_its_target(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.add_fault(f"GET {BATCHES}/*/tasks", status=503, times=None)
    assert http.get(BATCHES).status_code == 200
    assert http.post(f"{BATCHES}/b/tasks", json={}).status_code == 404
    assert http.get(f"{BATCHES}/b/tasks").status_code == 503
    assert http.get(f"{BATCHES}/b/tasks?limit=1").status_code == 503


def test_two_stars_name_everything(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.add_fault("** /**", status=500, times=2)
    assert http.get(f"{BATCHES}/b/tasks").status_code == 500
    assert http.post("/contents").status_code == 500


def test_cursor_can_be_refused_once(sandbox: SandboxServer, sdk: Valyu) -> None:
    batch = sdk.batch.create().batch_id
    sdk.batch.add_tasks(batch, [{"query": "one"}, {"query": "two"}])
    match = f"GET {BATCHES}/*/tasks?**last_key=**"
    sandbox.add_fault(match, status=400, error="Invalid last_key")
    key = sdk.batch.list_tasks(batch, limit=1).pagination.last_key
    assert sdk.batch.list_tasks(batch, last_key=key).error == "Invalid last_key"
    assert [task.query for task in sdk.batch.list_tasks(batch, last_key=key).tasks] == ["two"]


def test_rate_limit_says_when(sandbox: SandboxServer, sdk: Valyu) -> None:
    sandbox.add_fault(f"POST {BATCHES}", status=429, retry_after=7)
    limited = sdk.batch.create()
    assert (limited.error, limited.rate_limit.retry_after) == ("rate_limited", 7)


def test_sdk_retries_a_429_itself(sandbox: SandboxServer) -> None:
    sandbox.add_fault(f"POST {BATCHES}", status=429, retry_after=0)
    with Valyu(api_key="val_test", base_url=sandbox.api_url) as sdk:
        assert sdk.batch.create().success


@pytest.mark.parametrize(
    ("place", "header", "body"), [("header", "7", None), ("body", None, 7), ("both", "7", 7)]
)
def test_retry_after_is_where_it_was_ordered(
    sandbox: SandboxServer, http: httpx.Client, place: str, header: str | None, body: int | None
) -> None:
    sandbox.add_fault(f"GET {BATCHES}", status=429, retry_after=7, retry_after_in=place)
    limited = http.get(BATCHES)
    assert limited.headers.get("Retry-After") == header
    assert limited.json().get("retry_after") == body


def test_retry_after_can_be_a_date(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.add_fault(f"GET {BATCHES}", status=503, retry_after=60, retry_after_in="date")
    limited = http.get(BATCHES)
    until = parsedate_to_datetime(limited.headers["Retry-After"])
    assert 55 <= (until - parsedate_to_datetime(limited.headers["Date"])).total_seconds() <= 90


def test_error_text_can_be_set(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.add_fault(f"GET {BATCHES}", status=402)
    sandbox.add_fault(f"GET {BATCHES}", status=403, error="Not for you")
    assert [http.get(BATCHES).json()["error"] for _ in range(2)] == [
        "Insufficient credits",
        "Not for you",
    ]


def test_html_may_stand_where_json_should(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.add_fault(f"GET {BATCHES}", kind="html")
    page = http.get(BATCHES)
    assert (page.status_code, page.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert "<h1>" in page.text


def test_a_silence_ends_with_the_connection(
    sandbox: SandboxServer, http: httpx.Client, clock: ManualClock
) -> None:
    sandbox.add_fault(f"GET {BATCHES}", kind="hang", seconds=5)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(http.get, BATCHES)
        until(lambda: clock.next_call() == 5)
        clock.advance(5)
        with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
            answer.result()


def test_silence_can_outlast_the_client(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.add_fault(f"GET {BATCHES}", kind="hang", seconds=30)
    with pytest.raises(httpx.TimeoutException):
        http.get(BATCHES, timeout=0.05)


def test_a_reset_comes_before_the_work(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.add_fault(f"POST {BATCHES}", kind="reset")
    with pytest.raises(httpx.RemoteProtocolError):
        http.post(BATCHES, json={})
    assert sandbox.state()["batches"] == []


def test_lost_answer_leaves_a_batch_with_url(
    sandbox: SandboxServer, sdk: Valyu, inbox: Inbox
) -> None:
    sandbox.add_fault(f"POST {BATCHES}", kind="lost")
    assert not sdk.batch.create(webhook_url=inbox.url).success
    assert [batch.webhook_url for batch in sdk.batch.list().batches] == [inbox.url]


def test_an_answer_can_be_late(
    sandbox: SandboxServer, http: httpx.Client, clock: ManualClock
) -> None:
    sandbox.add_fault(f"GET {BATCHES}", kind="slow", seconds=5)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(http.get, BATCHES)
        until(lambda: clock.next_call() == 5)
        assert not answer.done()
        clock.advance(5)
        assert answer.result().json() == []


def test_a_body_can_stop_half_way(sandbox: SandboxServer, http: httpx.Client) -> None:
    http.post(BATCHES, json={})
    sandbox.add_fault(f"GET {BATCHES}", kind="cut")
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        http.get(BATCHES)


def test_sdk_survives_a_bad_gateway(
    sandbox: SandboxServer, sdk: Valyu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("valyu.deepresearch_client.time.sleep", lambda _: None)
    task = sdk.deepresearch.create(query="q").deepresearch_id
    for kind in ("html", "reset", "cut"):
        sandbox.add_fault("GET /deepresearch/tasks/*/status", kind=kind)
    assert sdk.deepresearch.status(task).status == "completed"


def test_faults_can_be_among_the_switches(sandbox: SandboxServer, http: httpx.Client) -> None:
    sandbox.change(faults=[{"match": f"GET {BATCHES}", "status": 500}])
    sandbox.change(copies=2)
    assert [http.get(BATCHES).status_code for _ in range(2)] == [500, 200]


def test_unknown_fault_is_refused(sandbox: SandboxServer) -> None:
    with pytest.raises(SandboxError, match="kind"):
        sandbox.add_fault(f"GET {BATCHES}", kind="flood")
