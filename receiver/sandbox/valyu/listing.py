"""Pages of a batch's tasks, with cursors that mean nothing to anyone else."""

import base64
import json
from typing import Any

from receiver.sandbox.answers import Refusal
from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu.records import Batch, Task


def page(
    batch: Batch, switches: Switches, *, status: str | None, limit: int, start: int
) -> tuple[list[Task], dict[str, Any]]:
    """Tasks from a place on, and the `pagination` that goes with them."""
    tasks = _ordered(batch, switches)
    found, following = _walk(tasks, status=status, limit=limit, start=start)
    if switches.has_more == "early":
        following = None
    elif switches.has_more == "late" and following is None and start < len(tasks):
        following = len(tasks)
    pagination: dict[str, Any] = {"count": len(found), "has_more": following is not None}
    if following is not None:
        pagination["last_key"] = write_cursor(following)
    return found, pagination


def _walk(
    tasks: list[Task], *, status: str | None, limit: int, start: int
) -> tuple[list[Task], int | None]:
    """The next tasks that fit, and the place of the one after them.

    That place is where the next page begins, so a filtered list is walked once and not per page.
    """
    found: list[Task] = []
    for place in range(start, len(tasks)):
        if status is not None and tasks[place].status != status:
            continue
        if len(found) == limit:
            return found, place
        found.append(tasks[place])
    return found, None


def _ordered(batch: Batch, switches: Switches) -> list[Task]:
    match switches.page_order:
        case "newest":
            return batch.tasks[::-1]
        case "id":
            return sorted(batch.tasks, key=lambda task: task.deepresearch_id)
        case "oldest":
            return batch.tasks


def write_cursor(place: int) -> str:
    """An opaque last_key."""
    text = json.dumps({"k": place}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """The place a last_key stands for; a 400 for one that is not ours."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=="))["k"]
    except (ValueError, TypeError, KeyError) as error:
        raise Refusal(400, "Invalid last_key") from error
    if not isinstance(place, int) or place < 0:
        raise Refusal(400, "Invalid last_key")
    return place
