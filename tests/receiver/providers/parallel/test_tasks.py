"""Parallel's single runs: what is sent for one, and what is refused before it."""

from typing import Any

import pytest

from receiver.providers.parallel.provider import Parallel

SCHEMA = {"type": "object", "properties": {"price": {"type": "number"}}}


def test_run_has_input_processor_and_schema() -> None:
    given = {"input": {"name": "a"}, "runner": "core", "output_schema": SCHEMA}
    new = Parallel().new_run({**given, "metadata": {"k": "v"}, "set": {"enable_events": True}})
    request = Parallel().create_run(new, webhook_url="https://us.test/w")
    assert (request.method, request.path) == ("POST", "/v1/tasks/runs")
    assert request.json == {
        "processor": "core",
        "input": {"name": "a"},
        "metadata": {"k": "v"},
        "task_spec": {"output_schema": {"type": "json", "json_schema": SCHEMA}},
        "enable_events": True,
        "webhook": {"url": "https://us.test/w", "event_types": ["task_run.status"]},
    }
    assert (new.input, new.runner) == ({"name": "a"}, "core")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input": "text"}, "the processor is missing"),
        ({"runner": "core"}, "the input is missing"),
        ({"input": "i" * 25_001, "runner": "core"}, "25000 are allowed"),
        ({"input": "i", "runner": "core", "deliverable": ["xlsx"]}, "take no --deliverable"),
        ({"input": "i", "runner": "core", "set": {"webhook": {}}}, "or is ours"),
        ({"input": "i", "runner": "core", "set": {"processor": "x"}}, "`processor` has an option"),
    ],
)
def test_run_beyond_the_limits_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Parallel().new_run(options)
