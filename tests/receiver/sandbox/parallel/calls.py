"""Requests that the tests of Parallel's v1 share, and the check of its signatures."""

from typing import Any

from parallel import Parallel
from standardwebhooks import Webhook, WebhookVerificationError

from receiver.sandbox import SandboxServer
from tests.receiver.sandbox.conftest import Delivery, Inbox

# Those of the contract's examples.
SECRET = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0"  # noqa: S105
OTHER_SECRET = "whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1CLTI0"  # noqa: S105
SPEC: Any = {
    "output_schema": {
        "type": "json",
        "json_schema": {
            "type": "object",
            "properties": {
                "ceo": {"type": "string"},
                "staff": {"type": "integer"},
                "offices": {"type": "array", "items": {"type": "string"}},
            },
        },
    }
}


def webhook(inbox: Inbox) -> Any:
    """A webhook as a request names it."""
    return {"url": inbox.url, "event_types": ["task_run.status"]}


def a_group(parallel: Parallel, *inputs: Any, **more: Any) -> tuple[str, list[str]]:
    """A group with a run for each input: its id, and theirs."""
    group = parallel.task_group.create().task_group_id
    wanted: Any = [{"input": each, "processor": "core", **more} for each in inputs]
    added = parallel.task_group.add_runs(group, inputs=wanted, default_task_spec=SPEC)
    return group, added.run_ids


def slowly(sandbox: SandboxServer) -> None:
    """Let runs take between two and three seconds of the sandbox's clock."""
    sandbox.change(duration=[2, 3])


def genuine(delivery: Delivery, key: str | bytes) -> bool:
    """Return True if the library of Standard Webhooks accepts a delivery with this key."""
    try:
        Webhook(key).verify(delivery.body, delivery.headers)
    except (WebhookVerificationError, ValueError):
        return False
    return True
