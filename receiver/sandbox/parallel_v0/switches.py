"""Switches of Parallel's v0 alone; contracts/parallel.md, section 1.5."""

from typing import Literal

from pydantic import Field

from receiver.sandbox.settings import Settings


class V0Switches(Settings):
    """How Parallel's v0, its export and its callbacks behave."""

    v0_run_path: Literal["run", "result", "both"] = "run"
    """Where a run of v0 is found: at `.../runs/{run_id}`, with `/result` behind it, or both."""
    v0_tools_marker: str = "[tools]"
    """A v0 run whose text contains this waits for tool calls for ever."""
    v0_cancel_marker: str = "[cancel]"
    """A v0 run whose text contains this is cancelled, as if somebody had done it."""
    v0_export_json: Literal["array", "ndjson"] = "array"
    """Form of v0's JSON export: one array, or one object a line."""
    v0_export_rows: Literal["complete", "terminal"] = "complete"
    """Runs that v0 exports: those that are complete, or failed and cancelled ones too."""
    v0_callback_body: Literal["run", "foreign", "unreadable"] = "run"
    """run: the run with its output. foreign: naming another run. unreadable: not even UTF-8."""
    v0_callback_on_failed: bool = True
    """Whether a failed v0 run is called back."""
    v0_retries: int = Field(default=0, ge=0)
    """How often a v0 callback is tried again; waits as `first_retry_wait` says."""
    v0_signature: Literal["none", "hmac-sha256", "standard-webhooks"] = "none"
    """How v0 callbacks with a secret are signed; their own headers come in any case."""
    v0_signed_text: Literal["timestamp.body", "body"] = "timestamp.body"
    """What `hmac-sha256` signs for v0; with `body` there is no timestamp."""
    v0_signature_header: str = "X-Webhook-Signature"
    """Name of the header with the signature of `hmac-sha256` for v0."""
    v0_timestamp_header: str = "X-Webhook-Timestamp"
    """Name of the header with its time."""
    v0_signature_prefix: str = "sha256="
    """What stands before its hex digits."""
