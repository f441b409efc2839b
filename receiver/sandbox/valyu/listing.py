"""Pages of a batch's tasks, with opaque cursors."""

import base64
import json
from typing import Any

from receiver.sandbox.responses import Refusal
from receiver.sandbox.switches import Switches
from receiver.sandbox.valyu.records import ValyuBatch, ValyuTask


def page(
    batch: ValyuBatch, switches: Switches, *, status: str | None, limit: int, start: int
) -> tuple[list[ValyuTask], dict[str, Any]]:
    """Return the tasks from a place on, and their `pagination`."""
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
    tasks: list[ValyuTask], *, status: str | None, limit: int, start: int
) -> tuple[list[ValyuTask], int | None]:
    """Return the next tasks with this status, and the place of the one after them.

    The next page begins at that place, so that all pages together read the list once.
    """
    found: list[ValyuTask] = []
    for place in range(start, len(tasks)):
        if status is not None and tasks[place].status != status:
            continue
        if len(found) == limit:
            return found, place
        found.append(tasks[place])
    return found, None


def _ordered(batch: ValyuBatch, switches: Switches) -> list[ValyuTask]:
    match switches.page_order:
        case "newest":
            return batch.tasks[::-1]
        case "id":
            return sorted(batch.tasks, key=lambda task: task.deepresearch_id)
        case "oldest":
            return batch.tasks


def write_cursor(place: int) -> str:
    """Return the `last_key` of a place."""
    text = json.dumps({"k": place}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> int:
    """Return the place of a `last_key`; one that is not ours is a 400."""
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=="))["k"]
    except (ValueError, TypeError, KeyError) as error:
        raise Refusal(400, "Invalid last_key") from error
    if not isinstance(place, int) or place < 0:
        raise Refusal(400, "Invalid last_key")
    return place
