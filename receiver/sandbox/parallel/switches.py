"""Switches of Parallel's v1 alone; their defaults are those of contracts/parallel.md, section 6.

The common ones apply as well, `tries` and `first_retry_wait` too: Parallel's own values are
believed to be 16 tries and 5 seconds.
"""

import base64
import binascii
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from receiver.sandbox.settings import Seconds, Settings


def _secret(text: str) -> str:
    try:
        base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be whsec_ and base64") from None
    if not text.startswith("whsec_"):
        raise ValueError("must be whsec_ and base64")
    return text


class ParallelSwitches(Settings):
    """How Parallel's Task API, its groups and its webhooks behave."""

    # Webhooks
    parallel_secrets: tuple[Annotated[str, AfterValidator(_secret)], ...] = Field(
        default=("whsec_cGFyYWxsZWwtc2FtcGxlLWtleS1BLTI0",), min_length=1
    )
    """The account's secrets; with several, as in a rotation, each delivery is signed with all."""
    parallel_key: Literal["new", "legacy", "both"] = "new"
    """How a key is made of a secret: of its decoded bytes, of its text as it is, or one of each."""
    parallel_empty_event_types: Literal["none", "all"] = "none"
    """What a webhook with `event_types: []`, or without any, is sent."""
    parallel_webhook_beta: bool = False
    """Whether a webhook is refused without `parallel-beta: webhook-2025-08-12`, as it once was."""

    # Runs
    parallel_old_runs: bool = False
    """Whether runs lack interaction_id and taskgroup_id, as in older samples."""
    parallel_json_as_text: bool = False
    """Whether JSON content is a string with JSON in it, as in one sample."""
    parallel_details: bool = False
    """Whether errors say `details` where they usually say `detail`."""
    parallel_metadata_limits: bool = False
    """Whether metadata is refused with keys over 16 or values over 512 characters."""
    parallel_result_timeout: Seconds = 600.0
    """The longest that a result is waited for, whatever the request's timeout says."""

    # Groups
    parallel_plain_422: bool = False
    """Whether groups answer 422 in the usual body of errors, and not as a bare `detail` list."""
    parallel_stale_status: Seconds = 0.0
    """Seconds for which a group's status is answered again as it was, whatever has happened."""
    parallel_early_inactive: bool = False
    """Whether a group with runs that still go says that it is not active."""

    # Streams of groups
    parallel_stream_active: bool = False
    """Whether the stream of runs lists, after all others, those that are still active."""
    parallel_drop_after: int | None = Field(default=None, ge=1)
    """Events after which a stream breaks off; it can be resumed behind the last of them."""
    parallel_drop_cleanly: bool = False
    """Whether a stream that breaks off looks as if it had come to its end."""
    parallel_error_after: int | None = Field(default=None, ge=1)
    """Events after which a stream sends an error event and ends; it can be resumed likewise."""
    parallel_late_outputs: int = Field(default=0, ge=0)
    """So many runs of each group, the first to complete, are streamed without their output."""
    parallel_late_for: Seconds | None = None
    """Seconds after the end of such a run that its output is streamed; None means never."""
    parallel_refuse_cursors: bool = False
    """Whether a stream with a last_event_id is answered 422."""
