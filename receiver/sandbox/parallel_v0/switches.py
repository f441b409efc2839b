"""Switches of Parallel's v0 alone; contracts/parallel.md, section 1.5."""

from typing import Literal

from pydantic import Field

from receiver.sandbox.switches_common import SandboxSettings


class V0Switches(SandboxSettings):
    """Behaviour of Parallel's v0, its export and its callbacks."""

    v0_run_path: Literal["run", "result", "both"] = "run"
    """Path of a v0 run: `run` is `.../runs/{run_id}`, `result` has `/result` after it, `both` is
    either."""
    v0_tools_marker: str = "[tools]"
    """Text in a v0 run that makes it wait for tool calls for ever."""
    v0_cancel_marker: str = "[cancel]"
    """Text in a v0 run that makes it end as cancelled."""
    v0_export_json: Literal["array", "ndjson"] = "array"
    """Form of v0's JSON export: one array, or one object a line."""
    v0_export_rows: Literal["complete", "terminal"] = "complete"
    """Runs in v0's export: complete ones, or `terminal` for failed and cancelled ones too."""
    v0_callback_body: Literal["run", "foreign", "unreadable"] = "run"
    """Body of a v0 callback: `run` is the run with its output, `foreign` names another run,
    `unreadable` is not even UTF-8."""
    v0_callback_on_failed: bool = True
    """A failed v0 run calls back."""
    v0_retries: int = Field(default=0, ge=0)
    """Number of retries of a v0 callback, with the waits of `first_retry_wait`."""
    v0_signature: Literal["none", "hmac-sha256", "standard-webhooks"] = "none"
    """Signature of v0 callbacks with a secret; their own headers are always sent."""
    v0_signed_text: Literal["timestamp.body", "body"] = "timestamp.body"
    """Text that `hmac-sha256` signs for v0; `body` has no timestamp."""
    v0_signature_header: str = "X-Webhook-Signature"
    """Name of v0's header with the signature of `hmac-sha256`."""
    v0_timestamp_header: str = "X-Webhook-Timestamp"
    """Name of v0's header with the time of `hmac-sha256`."""
    v0_signature_prefix: str = "sha256="
    """Text before the hex digits of v0's `hmac-sha256`."""
