"""Progress without a terminal: a line when something has changed, and at least every minute."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from receiver.cli.batch.progress import CHANGED_SECONDS, QUIET_SECONDS, Lines
from storage import Ledger

BATCH = Ledger(
    source="valyu",
    batch_id="batch_1",
    task_id=None,
    name=None,
    runner=None,
    endpoint_id=None,
    state="open",
    sender_status="running",
    expected=1000,
    announced=0,
    stored=0,
    failed=0,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    completed_at=None,
)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_change_is_printed_once_some_time_has_passed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines([BATCH], clock=clock)
    lines.update([replace(BATCH, stored=7)])
    lines.tick()
    assert printed(capsys) == []
    lines.update([replace(BATCH, stored=412, failed=3)])
    clock.now = CHANGED_SECONDS
    lines.tick()
    lines.tick()
    assert printed(capsys) == ["412 of 1000 stored, 3 failed; the sender says running"]


def test_nothing_new_is_printed_every_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = Lines([replace(BATCH, sender_status=None)], clock=clock)
    for clock.now in (QUIET_SECONDS - 1, QUIET_SECONDS, QUIET_SECONDS + 1, 2 * QUIET_SECONDS):
        lines.tick()
    assert printed(capsys) == ["0 of 1000 stored, 0 failed"] * 2


def test_several_batches_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    done = replace(BATCH, batch_id="batch_2", name="Grid", state="complete", stored=1000)
    lines = Lines([BATCH, replace(done, state="open", stored=999)], clock=clock)
    lines.update([BATCH, done])
    clock.now = QUIET_SECONDS
    lines.tick()
    clock.now *= 3
    lines.tick()
    first = "batch_1: 0 of 1000 stored, 0 failed; the sender says running"
    second = "Grid: 1000 of 1000 stored, 0 failed; the sender says running"
    assert printed(capsys) == [first, second, first]
