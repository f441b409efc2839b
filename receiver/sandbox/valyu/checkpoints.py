"""What a task with checkpoints asks a person; contracts/valyu.md, section 4."""

import secrets
from typing import Any

from receiver.sandbox.answers import Refusal
from receiver.sandbox.valyu.records import Task, now
from receiver.sandbox.valyu.results import given, milliseconds

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


def ask(task: Task, *, seconds: float) -> None:
    """Opens the next checkpoint of a task."""
    kind = task.checkpoints.pop(0)
    task.interaction = {
        "interaction_id": f"int_{secrets.token_hex(8)}",
        "type": kind,
        "data": _DATA[kind],
        "created_at": milliseconds(now()),
        "timeout_ms": round(seconds * 1000),
        "expected_response": _EXPECTED[kind],
    }


def answer(task: Task, body: dict[str, Any]) -> None:
    """Closes the open checkpoint with an answer; a 409 if it is not the one that is open."""
    if task.status not in ("awaiting_input", "paused") or task.interaction is None:
        raise Refusal(409, "Task is not awaiting input")
    if body.get("interaction_id") != task.interaction["interaction_id"]:
        raise Refusal(409, "interaction_id does not match the current interaction")
    if not isinstance(body.get("response"), dict):
        raise Refusal(400, "response must be an object")
    task.history.append(
        {name: task.interaction[name] for name in ("interaction_id", "type", "created_at")}
        | {
            "responded_at": milliseconds(now()),
            "auto_continued": False,
            "response": body["response"],
        }
    )
    task.interaction = None


def shown(task: Task) -> dict[str, Any]:
    """What a task's status tells of its checkpoints."""
    return given(interaction=task.interaction, hitl_history=task.history or None)
