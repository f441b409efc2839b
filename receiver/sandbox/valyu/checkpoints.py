"""Checkpoints, at which a task asks a person; contracts/valyu.md, section 4."""

import secrets
from datetime import datetime
from typing import Any

from receiver.sandbox.responses import Refusal, given
from receiver.sandbox.valyu.records import ValyuTask
from receiver.sandbox.valyu.results import milliseconds

_DATA: dict[str, dict[str, Any]] = {
    "planning_questions": {"questions": [{"question": "Which years?"}]},
    "plan_review": {"plan": "1. Search. 2. Compare. 3. Write."},
    "source_review": {"domains": ["utility.example", "paper.example"]},
    "outline_review": {"outline": "1. Summary. 2. Findings."},
}
_EXPECTED: dict[str, dict[str, Any]] = {
    "planning_questions": {"answers": [{"question": "string", "answer": "string"}]},
    "plan_review": {"approved": "boolean", "modifications": "string (optional)"},
    "source_review": {"included_domains": ["string"], "excluded_domains": ["string"]},
    "outline_review": {"approved": "boolean", "modifications": "string (optional)"},
}


def open_next(task: ValyuTask, *, seconds: float, at: datetime) -> None:
    """Open the next checkpoint of a task, which waits that long for its answer."""
    kind = task.checkpoints.pop(0)
    task.interaction = {
        "interaction_id": f"int_{secrets.token_hex(8)}",
        "type": kind,
        "data": _DATA[kind],
        "created_at": milliseconds(at),
        "timeout_ms": round(seconds * 1000),
        "expected_response": _EXPECTED[kind],
    }


def close(task: ValyuTask, body: dict[str, Any], *, at: datetime) -> None:
    """Close the open checkpoint with the answer in a request; another checkpoint is a 409."""
    if task.status not in ("awaiting_input", "paused") or task.interaction is None:
        raise Refusal(409, "Task is not awaiting input")
    if body.get("interaction_id") != task.interaction["interaction_id"]:
        raise Refusal(409, "interaction_id does not match the current interaction")
    if not isinstance(body.get("response"), dict):
        raise Refusal(400, "response must be an object")
    task.history.append(
        {name: task.interaction[name] for name in ("interaction_id", "type", "created_at")}
        | {
            "responded_at": milliseconds(at),
            "auto_continued": False,
            "response": body["response"],
        }
    )
    task.interaction = None


def shown(task: ValyuTask) -> dict[str, Any]:
    """Return the checkpoints as a task's status shows them."""
    return given(interaction=task.interaction, hitl_history=task.history or None)
