"""The worst habits that the sandbox has, all of them together, for each provider.

They are the same for a handful of runs, as a test, and for thousands (benchmarks/calls.py).
"""

from collections.abc import Iterator
from typing import Any

from receiver.sandbox import SandboxServer
from tests.conformance.cases import Case

ANSWERS: tuple[dict[str, Any], ...] = (
    {"status": 500},
    {"status": 429, "retry_after": 1, "retry_after_in": "date"},
    {"kind": "reset"},
    {"kind": "html"},
    {"kind": "cut"},
    {"kind": "slow", "seconds": 0.5},
)

DELIVERING: dict[str, Any] = {
    "copies": 2,
    "forgeries": 3,
    "reorder": 7,
    "delivery_delay": (0, 0.3),
    "first_retry_wait": 0.2,
    "clock_skew": -20,
}

OF_ONE: dict[str, dict[str, Any]] = {
    "valyu": {
        "has_more": "late",
        "page_order": "newest",
        "webhook_body": "wrapped",
        "settle": 0.5,
    },
    "parallel": {
        "parallel_key": "both",
        "parallel_late_for": 2.0,
        "parallel_stale_status": 1.0,
        "parallel_early_inactive": True,
        "parallel_stream_active": True,
        "parallel_old_runs": True,
        "parallel_json_as_text": True,
        "parallel_details": True,
    },
    "parallel-v0": {
        "v0_export_json": "ndjson",
        "v0_retries": 2,
        "v0_signature": "standard-webhooks",
        # Not "tampered": it has the genuine token, which is all that is checked by default.
        "forgery_kinds": ("wrong_key", "unsigned"),
    },
}


MORE: dict[str, dict[str, dict[str, Any]]] = {
    "valyu": {
        "worst, tasks announced too": {"task_webhooks": True},
        "worst, list ends early": {"has_more": "early"},
    },
    "parallel": {},
    "parallel-v0": {"worst, export of all ends": {"v0_export_rows": "terminal"}},
}
"""Habits that exclude others, or whose calls are to be seen by themselves."""


def named(case: Case) -> list[str]:
    """Return the names of habits: none, the worst, and the worst with something else."""
    return ["none", "worst", *MORE[case.name]]


def worst(case: Case, runs: int, name: str = "worst") -> dict[str, Any]:
    """The switches for a batch of so many runs; a part of them fails, and its pages are small."""
    share = max(runs // 30, 2)
    sizes = {
        "valyu": {"max_page_size": max(runs // 10, 5)},
        "parallel": {"parallel_drop_after": max(runs // 6, 5), "parallel_late_outputs": share},
        "parallel-v0": {},
    }
    more = MORE[case.name].get(name, {})
    return {**DELIVERING, **OF_ONE[case.name], **sizes[case.name], "failing_tasks": share, **more}


def order_faults(sandbox: SandboxServer, case: Case, *, every: int = 1) -> int:
    """Have calls answered badly, one good answer between two bad ones; returns how many."""
    ordered = 0
    for match, answers in _faults(case):
        for place, answer in enumerate(answers[::every], start=1):
            sandbox.add_fault(match, **answer, after=place)
            ordered += 1
    return ordered


def _faults(case: Case) -> Iterator[tuple[str, tuple[dict[str, Any], ...]]]:
    if case.refused_cursor is not None:
        yield case.lists + case.refused_cursor, ({"status": 400},)
    yield case.lists, ANSWERS
    yield case.looks, ANSWERS[:4]
    yield case.asks, ANSWERS[:4]
