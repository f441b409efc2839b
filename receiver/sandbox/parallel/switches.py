"""Switches of Parallel's v1 alone, with the defaults of contracts/parallel.md, section 6.

The common switches apply too.
"""

import base64
import binascii
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from receiver.sandbox.switches_common import SandboxSettings, Seconds


def _secret(text: str) -> str:
    try:
        base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be whsec_ and base64") from None
    if not text.startswith("whsec_"):
        raise ValueError("must be whsec_ and base64")
    return text


class ParallelSwitches(SandboxSettings):
    """Behaviour of Parallel's Task API, its groups and its webhooks."""

    # Webhooks
    parallel_secrets: tuple[Annotated[str, AfterValidator(_secret)], ...] = Field(
        default=("whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0",), min_length=1
    )
    """Secrets of the account, each of which signs every delivery, as during a rotation."""
    parallel_key: Literal["new", "legacy", "both"] = "new"
    """Key made from a secret: `new` is its decoded bytes, `legacy` its text, `both` one of each."""
    parallel_empty_event_types: Literal["none", "all"] = "none"
    """Events sent to a webhook whose `event_types` are missing or empty."""
    parallel_webhook_beta: bool = False
    """A webhook is refused without `parallel-beta: webhook-2025-08-12`, as it once was."""

    # Runs
    parallel_old_runs: bool = False
    """Runs lack `interaction_id` and `taskgroup_id`, as in older samples."""
    parallel_json_as_text: bool = False
    """JSON content is a string that contains JSON, as in one sample."""
    parallel_details: bool = False
    """Errors have `details` where they usually have `detail`."""
    parallel_metadata_limits: bool = False
    """Metadata with keys over 16 or values over 512 characters is refused."""
    parallel_result_timeout: Seconds = 600.0
    """Most seconds that a request waits for a result, whatever its own timeout is."""

    # Groups
    parallel_plain_422: bool = False
    """Groups answer 422 with the usual error body, and not with a bare `detail` list."""
    parallel_stale_status: Seconds = 0.0
    """Seconds for which a group's status is repeated, whatever has happened since."""
    parallel_early_inactive: bool = False
    """A group says that it is not active although runs of it are."""

    # Streams of groups
    parallel_stream_active: bool = False
    """The stream of runs ends with those that are still active."""
    parallel_drop_after: int | None = Field(default=None, ge=1)
    """Number of events after which a stream breaks off; a client can resume it there."""
    parallel_drop_cleanly: bool = False
    """A stream that breaks off looks complete."""
    parallel_error_after: int | None = Field(default=None, ge=1)
    """Number of events after which a stream ends with an error event; a client can resume it
    there."""
    parallel_late_outputs: int = Field(default=0, ge=0)
    """Number of runs of each group, the first to complete, that streams show without output."""
    parallel_late_for: Seconds | None = None
    """Seconds after its end at which streams show the output of such a run; null is never."""
    parallel_refuse_cursors: bool = False
    """A stream with a `last_event_id` is answered 422."""
