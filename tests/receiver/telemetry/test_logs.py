"""One format for all lines, nothing secret in them, and no flood."""

import io
import json
import logging
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.settings import GivenSettings
from receiver.telemetry import logs, redaction

WHSEC = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(**fields: Any) -> dict[str, Any]:
    """The JSON line that comes out for these fields."""
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    logs.get_logger("test").info("said", **fields)
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


def shown(event: str, **fields: Any) -> str:
    """The line that a person sees for these fields."""
    stream = io.StringIO()
    logs.configure(json=False, stream=stream)
    logs.get_logger("test").info(event, **fields)
    return stream.getvalue()


def test_error_of_a_command_shows_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    def breaks(held: str) -> None:
        raise KeyError(len(held))

    with logs.for_command():
        log = logs.get_logger("test")
        log.info("said")
        try:
            breaks("a stored result " * 2)
        except KeyError:
            log.exception("it broke", key=WHSEC)
    err = capsys.readouterr().err
    assert ("KeyError: 32" in err, "it broke" in err) == (True, True)
    assert [word for word in ("said", "a stored result a", WHSEC) if word in err] == []


def test_json_line_starts_with_promised_keys() -> None:
    line = written(source="valyu", bytes=12, ms=0.5, ok=True, nothing=None)
    assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("timestamp"))
    assert line == {
        "level": "info",
        "logger": "test",
        "event": "said",
        "source": "valyu",
        "bytes": 12,
        "ms": 0.5,
        "ok": True,
        "nothing": None,
    }


def test_json_unless_it_is_a_terminal() -> None:
    for stream in (io.StringIO(), Terminal()):
        logs.configure(stream=stream)
        logs.get_logger("test").warning("said", n=1)
        assert stream.getvalue().startswith("{") is not stream.isatty()
        assert "said" in stream.getvalue()


def test_nothing_below_the_level_comes_out() -> None:
    stream = io.StringIO()
    logs.configure(json=True, level="WARNING", stream=stream)
    logs.get_logger("a").info("no")
    logging.getLogger("b").info("no")
    logs.get_logger("a").warning("yes")
    logging.getLogger("b").warning("yes")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["yes", "yes"]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown log level 'loud'"):
        logs.configure(level="loud")


def test_reconfiguring_moves_used_loggers() -> None:
    first, second = io.StringIO(), io.StringIO()
    log = logs.get_logger("test")
    logs.configure(json=True, stream=first)
    log.info("one")
    logs.configure(json=False, stream=second)
    log.info("two")
    logging.getLogger("test").info("three")
    assert first.getvalue().count("\n") == 1
    assert second.getvalue().count("\n") == 2
    assert "{" not in second.getvalue()


def test_fields_cannot_replace_ours() -> None:
    line = written(level="fatal", logger="x", timestamp="yesterday")
    assert (line["level"], line["logger"], line["level_"]) == ("info", "test", "fatal")


@pytest.mark.parametrize("json_", [True, False])
@pytest.mark.parametrize("level", ["info", "warning"])
def test_prepared_line_equals_the_logger_s(json_: bool, level: str) -> None:
    fields: dict[str, Any] = {
        "source": "valyu",
        "key": f"a {WHSEC} \x1b\n",
        "n": 12,
        "ms": 0.5,
        "nothing": None,
        "token": "hunter2",
    }
    prepared = logs.often(logs.get_logger("test"), "test", "said", *fields)
    texts = []
    for is_prepared in (True, False):
        stream = io.StringIO()
        logs.configure(json=json_, level=level, stream=stream)
        if is_prepared:
            prepared(*fields.values())
        else:
            logs.get_logger("test").info("said", **fields)
        texts.append(re.sub(r"\d{4}-\S+Z", "", stream.getvalue()))
    assert texts[0] == texts[1]
    assert (texts[0] == "") is (level == "warning")
    assert "hunter2" not in texts[0]


# Secrets.


@pytest.mark.parametrize(
    "name",
    [
        *("secret", "signing_secret", "api_key", "apikey", "Authorization", "x-webhook-signature"),
        *("body", "raw_body", "password", "access_token", "cookie", "credentials"),
    ],
)
@pytest.mark.parametrize("value", ["hunter2", b"hunter2", ["hunter2"], {"a": "hunter2"}], ids=type)
def test_secret_looking_name_hides_value(name: str, value: object) -> None:
    assert written(**{name: value})[name] == redaction.HIDDEN
    assert written(headers={name: value})["headers"] == {name: redaction.HIDDEN}
    assert "hunter2" not in shown("said", **{name: value})


def test_numbers_under_secret_names_stay() -> None:
    line = written(body_bytes=1021, secret_id=7, tokens=1.5)
    assert (line["body_bytes"], line["secret_id"], line["tokens"]) == (1021, 7, 1.5)


@pytest.mark.parametrize(
    ("text", "comes_out"),
    [
        ("https://x.test/a?X-Amz-Signature=abc&b", "https://x.test/a?[hidden]"),
        ("https://y.test/x.test%2Fa%3FX-Amz-Signature%3Dabc", "https://y.test/x.test%2Fa[hidden]"),
        (r"https://x.test/a\u003fX-Amz-Signature=abc is", "https://x.test/a[hidden] is"),
        ('"GET /webhooks/v?token=abc HTTP/1.1" 200', '"GET /webhooks/v?[hidden] HTTP/1.1" 200'),
        ("postgresql://me:pw@db/x", "postgresql://[hidden]@db/x"),
        (f"got {WHSEC}.", "got whsec_[hidden]."),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: Bearer [hidden]"),
        ("key val_0123456789abcdef used", "key val_[hidden] used"),
        (f"token rs_{'0a_-' * 10}abc used", "token rs_[hidden] used"),
        ("why? because", "why? because"),
        ("someone@example.test", "someone@example.test"),
        ("interval_of_something_long", "interval_of_something_long"),
    ],
)
def test_secrets_inside_text_are_hidden(text: str, comes_out: str) -> None:
    line = written(note=text, deep={"list": [text]}, error=ValueError(text))
    assert (line["note"], line["deep"], line["error"]) == (
        comes_out,
        {"list": [comes_out]},
        comes_out,
    )
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    logging.getLogger("other").warning("%s", text)
    assert json.loads(stream.getvalue())["event"] == comes_out


def test_configured_secret_never_comes_out() -> None:
    source = {"api_key": "plain-words", "signing_secrets": ["plain-words-and-more"]}
    given = {"encryption_keys": ["key-of-the-database"], "sources": {"a": source}}
    settings = GivenSettings.model_validate(given)
    logs.hide([*settings.secrets(), "short"])
    line = written(
        said=["say plain-words", {"x": "key-of-the-database"}], more="plain-words-and-more"
    )
    assert line["said"] == ["say [hidden]", {"x": "[hidden]"}]
    assert line["more"] == "[hidden]"
    assert "[hidden]," in shown("plain-words, in short")
    assert written(cut="x" * (redaction.MAX_TEXT - 3) + "plain-words")["cut"].count("pla") == 0


def test_traceback_is_one_scrubbed_field() -> None:
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    try:
        raise ValueError(f"bad {WHSEC}")
    except ValueError:
        logs.get_logger("test").exception("failed")
        logging.getLogger("other").exception("failed")
    for text in stream.getvalue().splitlines():
        line = json.loads(text)
        assert line["level"] == "error"
        assert "ValueError: bad whsec_[hidden]" in line["exception"]
        assert "Traceback" in line["exception"]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


@given(value=values, name=st.text(min_size=1), event=st.text())
def test_any_value_is_one_redacted_line(value: Any, name: str, event: str) -> None:
    fields = {"event": event, name: value}
    text = logs._to_json(logging.getLogger("test"), "info", dict(fields))
    line = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    wanted = logs.redact(logging.getLogger("test"), "info", dict(fields))
    assert "\n" not in text
    assert {**line, "timestamp": ""} == {**wanted, "timestamp": ""}


def test_long_and_deep_things_are_cut() -> None:
    deep: Any = "hunter2"
    for _ in range(50):
        deep = [deep]
    line = written(long="x" * 10**6, deep=deep, raw=b"x" * 9)
    assert len(line["long"]) < redaction.MAX_TEXT + 50
    assert redaction.HIDDEN in str(line["deep"])
    assert line["raw"] == "<9 bytes>"


def test_non_finite_numbers_become_text() -> None:
    line = written(far=float("-inf"), none=[float("nan")])
    assert (line["far"], line["none"]) == ("-inf", ["nan"])


def test_terminal_escapes_are_neutralised() -> None:
    text = shown("a\x1b[2Jb\nc", agent="\x1b]0;x\x07", other="\ud800\u202e")
    assert "\x1b" not in text
    assert text.count("\n") == 1
    assert "\u202e" not in text


# The standard library's loggers.


def test_standard_library_records_look_alike() -> None:
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    logging.getLogger("some.library").info("Going from %s", "a to b")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"]) == ("info", "some.library")
    assert line["event"] == "Going from a to b"


def test_uvicorns_own_handlers_are_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("uvicorn").propagate = False
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    # a uvicorn that ran in this process may have set its own level
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").info("Started")
    assert stream.getvalue().count("Started") == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "uvicorn.access"])
def test_request_lines_silent_but_not_warnings(name: str) -> None:
    stream = io.StringIO()
    logs.configure(json=True, level="debug", stream=stream)
    logging.getLogger(name).info("HTTP Request: GET https://x.test/?sig=1")
    assert stream.getvalue() == ""
    logging.getLogger(name).warning("odd")
    assert "odd" in stream.getvalue()


def test_misfit_arguments_are_no_error() -> None:
    stream = io.StringIO()
    logs.configure(json=True, stream=stream)
    del logging.getLogger().handlers[:-1]  # pytest's own handlers would raise
    logging.getLogger("other").info("%d of %d", "x")
    assert json.loads(stream.getvalue())["event"] == "%d of %d"


# Where lines go.


class Full(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(28, "No space left on device")


def test_unwritable_stream_does_not_reach_caller() -> None:
    closed = io.StringIO()
    for stream in (Full(), closed):
        logs.configure(json=True, stream=stream)
        closed.close()
        logs.get_logger("test").info("said")


def test_lines_to_file_soon_and_ordered(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+") as stream:
        logs.configure(json=True, stream=stream)
        for number in range(500):
            logs.get_logger("test").info("said", number=number)
            time.sleep(0.0004)
        deadline = time.monotonic() + 10
        while (text := (tmp_path / "log").read_text()).count("\n") < 500:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert [json.loads(line)["number"] for line in text.splitlines()] == [*range(500)]
        logs.configure(json=True, stream=io.StringIO())


def test_flush_writes_what_waits(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        logs.configure(json=True, stream=stream)
        logs.get_logger("test").info("said")
        logs.flush()
        assert (tmp_path / "log").read_text().count("said") == 1
        logs.get_logger("test").info("said")
        logs.configure(json=True, stream=io.StringIO())
        assert (tmp_path / "log").read_text().count("said") == 2


PROGRAM = """
import os, logging
from receiver.telemetry import logs, redaction
from receiver.settings import GivenSettings
log = logs.get_logger("test")
logs.configure()
log.info("in the parent")
if os.fork() == 0:
    log.info("in the child")
    raise SystemExit
os.wait()
log.info("at the end")
"""


def test_ordinary_exit_loses_no_line() -> None:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM], stderr=subprocess.PIPE, check=True, text=True
    )
    events = sorted(json.loads(line)["event"] for line in done.stderr.splitlines())
    assert events == ["at the end", "in the child", "in the parent"]


def test_importing_configures_nothing() -> None:
    program = (
        "import logging, structlog, threading; from receiver.telemetry import logs;"
        "logs.get_logger('x');"
        "assert not structlog.is_configured() and not logging.getLogger().handlers;"
        "assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603


def test_text_is_quoted_alike_without_private_function() -> None:
    for text in ("plain", 'a "quote" \\', "line\nend\x00", "ünï \ud800 \U0001f600"):
        assert logs._quote(text) == json.dumps(text)
