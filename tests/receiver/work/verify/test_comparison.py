"""Comparing one run as the sender shows it with the stored one."""

from datetime import UTC, datetime
from typing import Any

import pytest

from receiver.work.verify.comparison import Kind, absent, compare, needs_own_call
from storage import ComparedRun, FetchedRun
from storage.runs.rows import row_of

NOON = datetime(2026, 10, 5, 12, 0, tzinfo=UTC)
LATER = NOON.replace(hour=13)


def told(status: str = "completed", **more: Any) -> FetchedRun:
    return FetchedRun("r1", status, status, {}, **{"output": "x", **more})


def kept(result: str | None = "completed", **more: Any) -> ComparedRun:
    values: dict[str, Any] = {
        "status": "completed",
        "digest": row_of(told()).digest,
        "output_type": None,
        "completed_at": None,
        "pruned_at": None,
    }
    return ComparedRun(result=result, **{**values, **more})


CASES: list[tuple[FetchedRun, ComparedRun | None, Kind | None]] = [
    (told(), kept(), None),
    (told(), None, Kind.MISSING_HERE),
    (told(), kept(None), Kind.MISSING_HERE),
    (told("running"), None, None),
    (told("running"), kept(None), None),
    (told("running"), kept(), Kind.STATE),
    (told("failed", error="e"), kept(), Kind.STATE),
    (told(), kept("failed"), Kind.STATE),
    (told(), kept(status="failed"), Kind.STATE),
    (told(), kept(digest=None), Kind.CONTENT),
    (told(output="y"), kept(), Kind.CONTENT),
    (told(output="y", completed_at=LATER), kept(completed_at=NOON), Kind.NEWER_THERE),
    (told(output="y", completed_at=NOON), kept(completed_at=LATER), Kind.CONTENT),
    (told(output="y"), kept(pruned_at=NOON), Kind.PRUNED_HERE),
    (told(output=None, has_output=False), kept(), Kind.GONE_THERE),
]


@pytest.mark.parametrize(("run", "stored", "kind"), CASES)
def test_kind_of_a_difference(
    run: FetchedRun, stored: ComparedRun | None, kind: Kind | None
) -> None:
    found = compare(row_of(run), stored, "b1")
    assert (found and found.kind) == kind


def test_here_names_what_differs() -> None:
    assert [
        found and found.here
        for found in (
            compare(row_of(told()), stored, "b1")
            for stored in (None, kept(None), kept("failed"), kept(status="failed"))
        )
    ] == [None, "no result", "failed", "failed"]


def test_absent_result_is_gone_absent_run_drift() -> None:
    assert absent("r1", kept(), None).kind is Kind.GONE_THERE
    assert absent("r1", kept(None), None).kind is Kind.MISSING_THERE
    drift = [kind for kind in Kind if not kind.is_drift]
    assert drift == [Kind.PRUNED_HERE, Kind.GONE_THERE]


@pytest.mark.parametrize(
    ("run", "stored", "needs"),
    [
        (told(), kept(), False),
        (told("running"), kept(), False),
        (told("failed", is_whole=False), None, True),
        (told(output=None, has_output=False), None, True),
        (told(output_type="csv"), kept(output_type="json"), True),
        (told(output_type="csv"), kept(output_type="csv"), False),
        (told(output_type="csv"), None, False),
    ],
)
def test_listing_that_shows_too_little(
    run: FetchedRun, stored: ComparedRun | None, needs: bool
) -> None:
    assert needs_own_call(run, stored) is needs
