"""Switches that all senders share, and those of Valyu; and every fault that can be ordered.

The defaults are ours, not Valyu's: where contracts/valyu.md says UNKNOWN, the plainest answer.
"""

from typing import Literal

from pydantic import Field, model_validator

from receiver.sandbox.settings import Forgery, Seconds, Settings, Span


class Fault(Settings):
    """One planned misbehaviour of the API: what to do to which requests, and how often."""

    match: str
    """Method and path below /v1, such as `GET /deepresearch/batches/*/tasks` or `GET
    /tasks/runs/*/result`; other paths as they are, such as `POST /v1beta/tasks/groups` or `GET
    /v0/**`. `*` is one segment, `**` anything; with `?` the query must match too:
    `...tasks?last_key=*`."""
    kind: Literal["status", "html", "hang", "reset", "lost", "slow", "cut"] = "status"
    """status: a JSON error. html: a proxy's page. hang: silence, then the connection ends. reset:
    cut off before the work. lost: cut off after it. slow: answered late. cut: half a body."""
    status: int | None = Field(default=None, ge=200, le=599)
    """The status answered by `status` (500 unless given) and `html` (502 unless given)."""
    times: int | None = Field(default=1, ge=1)
    """How many matching requests are hit; None means all of them."""
    after: int = Field(default=0, ge=0)
    """How many matching requests pass first."""
    seconds: Seconds = 30.0
    """How long `hang` and `slow` take."""
    error: str | None = None
    """The text of the error; a usual one for the status unless given."""
    retry_after: int | None = Field(default=None, ge=0)
    """Seconds the client is asked to wait; in a 429 without it, 1."""
    retry_after_in: Literal["header", "date", "body", "both"] = "both"
    """Where that stands: a header in seconds or as a date, the JSON body, or header and body.
    Parallel's bodies never say it, so `body` means that it is not said at all."""


class CommonSwitches(Settings):
    """What all senders share, and what is Valyu's own."""

    # Access and answers
    api_key: str | None = None
    """The one key accepted; None accepts every key that begins `val_`, or any key at Parallel's."""
    post_status: Literal[200, 201, 202] = 200
    """Success status of creating tasks and batches and of adding tasks; not of Parallel's v1."""
    success_flag: bool = False
    """Whether answers that are JSON objects carry `success: true`."""
    faults: tuple[Fault, ...] = ()
    """Planned faults, in order; the first that matches is taken."""

    # Research
    seed: int = 0
    """Decides outputs (together with the query) and durations; ids and secrets are always new."""
    speed: float = Field(default=1.0, gt=0)
    """Divides durations, delays and the waits between tries."""
    duration: Span = (0.5, 2.0)
    """Seconds a task takes, least and most, or one number; 0 ends it within the request."""
    hold: bool = False
    """Tasks stay queued until this is switched off (add thousands first, then let them go)."""
    settle: Seconds = 0.0
    """A batch whose tasks are all done ends this many seconds after the last of them."""
    failing_tasks: int = Field(default=0, ge=0)
    """So many tasks of each batch (runs of each group) fail, the first ones added."""
    fail_marker: str = "[fail]"
    """A task fails, and a URL of a contents job too, if this stands in its text."""
    stuck_marker: str = "[stuck]"
    """A task whose query contains this runs until it is cancelled."""
    hitl_timeout: Seconds = 300.0
    """Seconds a checkpoint waits for its answer; then the task is paused, and may be answered."""
    add_after_end: bool = False
    """Whether an ended batch takes more tasks; it then ends, and announces its end, again."""
    max_batch_tasks: int | None = None
    """How many tasks one batch takes; None means any number."""
    refuse_duplicate_ids: bool = False
    """Whether a task id that its batch has already is answered 400."""
    cancel_keeps_running: bool = False
    """Whether running tasks of a cancelled batch go on (the older text says so)."""
    end_after_single_cancel: Literal["completed", "completed_with_errors", "cancelled"] = (
        "completed_with_errors"
    )
    """Status of a batch of which no task failed but some were cancelled one by one."""

    # Results
    output_bytes: int | None = Field(default=None, ge=1)
    """Size of a markdown output; None gives a short report."""
    sources: int = Field(default=2, ge=0)
    """Sources of each result."""
    images: int = Field(default=0, ge=0)
    """Images of each result."""
    messages: int = Field(default=0, ge=0)
    """Entries of the agent's trace in a task's status."""
    research_mode_only: bool = False
    """Whether a task carries `research_mode` in place of `mode`, as newer servers may."""
    metadata_in_status: bool = False
    """Whether a task's status carries its metadata."""
    completed_at_on_failed: bool = False
    """Whether failed and cancelled tasks have a completed_at."""
    failed_tasks_cost: bool = False
    """Whether a failed task costs what a completed one does."""
    partial_output_on_failed: bool = False
    """Whether a failed task carries the output it had so far."""
    pdf_url: Literal["storage", "presigned", "api"] = "storage"
    """Form of pdf_url: a plain link, one signed with an expiry, or one that needs the API key."""
    url_lifetime: float | None = None
    """Seconds that the signed URLs of assets and PDFs are good for; None means for ever."""

    # Listing
    page_size: int = Field(default=50, ge=1)
    """Tasks on a page when the request has no limit."""
    max_page_size: int = Field(default=100, ge=1)
    """The most a page holds, whatever the limit says."""
    page_order: Literal["oldest", "newest", "id"] = "oldest"
    """Order of the tasks in a list."""
    has_more: Literal["honest", "late", "early"] = "honest"
    """late: the last page promises more and leads to an empty one. early: no page admits more."""
    outputs_in_list: bool = True
    """Whether include_output works; if not, each task has to be asked for."""

    # Polling
    etag: bool = True
    """Whether a task's status has an ETag and is answered 304 when it has not changed."""
    poll_hint: int | None = Field(default=None, ge=0)
    """Retry-After, in seconds, with the status of a task that is not done."""

    # Webhooks
    webhook: bool = True
    """Whether webhooks are sent at all."""
    webhook_body: Literal["flat", "wrapped", "outputs", "foreign", "unreadable"] = "flat"
    """flat: the status, which Parallel always wraps. wrapped: {type, data}. outputs: with the
    results. foreign: signed, but naming another resource. unreadable: not JSON, not even UTF-8."""
    webhook_on_cancel: bool = False
    """Whether a cancelled task or batch is announced."""
    webhook_on_input: bool = False
    """Whether a task that awaits input, or is paused for want of it, is announced."""
    task_webhooks: bool = False
    """Whether each task of a batch is announced at the batch's URL, before the batch is."""
    deliver_beyond_loopback: bool = False
    """Whether https webhook URLs on other machines are really called."""

    # Signing
    signature_header: str = "X-Webhook-Signature"
    """Name of the header with the signature."""
    timestamp_header: str = "X-Webhook-Timestamp"
    """Name of the header with the time."""
    timestamp_unit: Literal["s", "ms"] = "s"
    """Unit of the signed time."""
    clock_skew: float = 0.0
    """Seconds by which the sender's clock is ahead (behind, if negative) when it signs."""
    resign: bool = True
    """Whether each try is signed with its own time; if not, tries repeat the first one's."""

    # Delivering
    tries: int = Field(default=5, ge=1)
    """How often a delivery is tried (Parallel is believed to try 16 times)."""
    first_retry_wait: Seconds = 1.0
    """Seconds before the second try; doubles with each one (Parallel is believed to wait 5)."""
    delivery_timeout: float = Field(default=10.0, gt=0)
    """Seconds a try waits for the receiver."""
    retry_client_errors: bool = True
    """Whether a 4xx is tried again like everything else that is not 2xx."""
    delivery_delay: Span = (0.0, 0.0)
    """Seconds a delivery is kept back, least and most, or one number."""
    copies: int = Field(default=1, ge=1)
    """How often every delivery is made."""
    reorder: int = Field(default=1, ge=1)
    """Deliveries gathered and then sent last first."""
    reorder_wait: Seconds = 0.5
    """Seconds after which gathered deliveries are sent though no more have come."""
    forgeries: int = Field(default=0, ge=0)
    """Forged deliveries sent beside each genuine one, once each."""
    forgery_kinds: tuple[Forgery, ...] = Field(
        default=("wrong_key", "tampered", "unsigned"), min_length=1
    )
    """Kinds of forgery, taken in turn."""

    @model_validator(mode="after")
    def _spans_in_order(self) -> "CommonSwitches":
        for name in ("duration", "delivery_delay"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name}: the least ({least}) is more than the most ({most})")
        return self
