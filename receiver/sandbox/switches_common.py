"""Switches that all senders share, those of Valyu, and the faults that can be ordered.

Where contracts/valyu.md says UNKNOWN, a default here is the plainest answer; it is not Valyu's.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)


class SandboxError(ValueError):
    """The sandbox cannot do what it was asked to; the text says what to do instead."""


def _as_span(value: Any) -> Any:
    """Turn a single number into the span that begins and ends there."""
    return (value, value) if isinstance(value, int | float) else value


Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Span = Annotated[tuple[Seconds, Seconds], BeforeValidator(_as_span)]
Forgery = Literal["wrong_key", "tampered", "unsigned"]


class SandboxSettings(BaseModel):
    """Base of switches and faults; it refuses unknown names, so that no misspelt one is ignored."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


Model = TypeVar("Model", bound=SandboxSettings)


def parse(model: type[Model], values: Any) -> Model:
    """Make switches or a fault of values from outside; raises SandboxError in one sentence."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SandboxError(first_fault(error)) from error


def first_fault(error: ValidationError) -> str:
    """Return the first thing that is wrong, and where, in one line."""
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"])
    return f"{where}: {detail['msg']}" if where else detail["msg"]


class Fault(SandboxSettings):
    """One planned misbehaviour of the API: the requests it hits, what it does, and how often."""

    match: str
    """Method and path of the requests hit, where `*` is one segment, `**` is anything, and what
    follows a `?` must match the query: `GET /deepresearch/batches/*/tasks?last_key=*`, `GET
    /tasks/runs/*/result` (both without their /v1), `POST /v1beta/tasks/groups`, `GET /v0/**`."""
    kind: Literal["status", "html", "hang", "reset", "lost", "slow", "cut"] = "status"
    """Misbehaviour: `status` answers a JSON error, `html` a proxy's page, `hang` is silent until
    it ends the connection, `reset` ends the connection before the work, `lost` after it, `slow`
    answers late, and `cut` sends half a body."""
    status: int | None = Field(default=None, ge=200, le=599)
    """Status that `status` and `html` answer; null is 500 for `status` and 502 for `html`."""
    times: int | None = Field(default=1, ge=1)
    """Number of matching requests hit; null hits all of them."""
    after: int = Field(default=0, ge=0)
    """Number of matching requests that pass before the first is hit."""
    seconds: Seconds = 30.0
    """Seconds that `hang` and `slow` take."""
    error: str | None = None
    """Text of the error; null is the usual text for the status."""
    retry_after: int | None = Field(default=None, ge=0)
    """Seconds that the client shall wait; null is 1 in a 429, and no wait in other answers."""
    retry_after_in: Literal["header", "date", "body", "both"] = "both"
    """Place of that wait: `header` has it in seconds, `date` is a header with a date, `body` is
    the JSON body, which Parallel's errors leave out, and `both` is header and body."""


class CommonSwitches(SandboxSettings):
    """Switches that all senders share, and those of Valyu alone."""

    # Access and answers
    api_key: str | None = None
    """The only API key accepted; null accepts any key at Parallel, and `val_...` at Valyu."""
    post_status: Literal[200, 201, 202] = 200
    """Status of a created task or batch and of added tasks, except at Parallel's v1."""
    success_flag: bool = False
    """Answers that are JSON objects carry `success: true`."""
    faults: tuple[Fault, ...] = ()
    """Planned faults in their order; the first that matches a request hits it."""

    # Research
    seed: int = 0
    """Number that outputs and durations are made from; ids and secrets are always new."""
    speed: float = Field(default=1.0, gt=0)
    """Divisor of durations, delays and waits before retries."""
    duration: Span = (0.5, 2.0)
    """Seconds that a task takes, as [least, most] or one number; 0 ends it within the request."""
    hold: bool = False
    """Tasks stay queued until this is switched off, so that thousands can be added first."""
    settle: Seconds = 0.0
    """Seconds between the end of a batch's last task and the end of the batch."""
    failing_tasks: int = Field(default=0, ge=0)
    """Number of tasks of each batch, or runs of each group, that fail: the first ones added."""
    fail_marker: str = "[fail]"
    """Text in a task, or in a URL of a contents job, that makes it fail."""
    stuck_marker: str = "[stuck]"
    """Text in a task that keeps it running until it is cancelled."""
    hitl_timeout: Seconds = 300.0
    """Seconds that a checkpoint waits for an answer before its task is paused; it can be answered
    later too."""
    add_after_end: bool = False
    """An ended batch takes more tasks, and then ends and announces its end once more."""
    max_batch_tasks: int | None = None
    """Number of tasks that one batch takes; null is no limit."""
    refuse_duplicate_ids: bool = False
    """A task id that its batch already has is answered 400."""
    cancel_keeps_running: bool = False
    """Running tasks of a cancelled batch go on, as an older text of Valyu says."""
    end_after_single_cancel: Literal["completed", "completed_with_errors", "cancelled"] = (
        "completed_with_errors"
    )
    """Status of a batch in which no task failed and some were cancelled one by one."""

    # Results
    output_bytes: int | None = Field(default=None, ge=1)
    """Size of a markdown output in bytes; null is a short report."""
    sources: int = Field(default=2, ge=0)
    """Number of sources that each result cites."""
    images: int = Field(default=0, ge=0)
    """Number of images in each result."""
    messages: int = Field(default=0, ge=0)
    """Number of entries of the agent's trace in a task's status."""
    research_mode_only: bool = False
    """A task carries `research_mode` instead of `mode`, as newer servers may."""
    metadata_in_status: bool = False
    """A task's status carries its metadata."""
    completed_at_on_failed: bool = False
    """Failed and cancelled tasks have a `completed_at`."""
    failed_tasks_cost: bool = False
    """A failed task costs as much as a completed one."""
    partial_output_on_failed: bool = False
    """A failed task carries the output that it had so far."""
    pdf_url: Literal["storage", "presigned", "api"] = "storage"
    """Form of `pdf_url`: `storage` is a plain link, `presigned` has a signature that can expire,
    and `api` needs the API key."""
    url_lifetime: float | None = None
    """Seconds for which signed URLs of assets and PDFs work; null is for ever."""

    # Listing
    page_size: int = Field(default=50, ge=1)
    """Number of tasks on a page if the request has no limit."""
    max_page_size: int = Field(default=100, ge=1)
    """Highest number of tasks on a page, whatever limit the request has."""
    page_order: Literal["oldest", "newest", "id"] = "oldest"
    """Order of the tasks in a list."""
    has_more: Literal["honest", "late", "early"] = "honest"
    """Truth of `has_more`: `late` promises one empty page after the last, `early` is always
    false."""
    outputs_in_list: bool = True
    """A list with `include_output` has the outputs; if not, each task must be read by itself."""

    # Polling
    etag: bool = True
    """A task's status has an ETag, and an unchanged status is answered 304."""
    poll_hint: int | None = Field(default=None, ge=0)
    """Seconds of the Retry-After in the status of a task that is not done; null is no header."""

    # Webhooks
    webhook: bool = True
    """Webhooks are sent."""
    webhook_body: Literal["flat", "wrapped", "outputs", "foreign", "unreadable"] = "flat"
    """Body of a webhook: `flat` is the status, `wrapped` is {type, data} as always at Parallel,
    `outputs` has the results, `foreign` names another resource, `unreadable` is not even UTF-8."""
    webhook_on_cancel: bool = False
    """A cancelled task or batch is announced."""
    webhook_on_input: bool = False
    """A task that awaits input, or is paused because none came, is announced."""
    task_webhooks: bool = False
    """Each task of a batch is announced at the batch's URL, before the batch is."""
    deliver_beyond_loopback: bool = False
    """Webhooks to https URLs on other machines are really sent."""

    # Signing
    signature_header: str = "X-Webhook-Signature"
    """Name of the header with the signature."""
    timestamp_header: str = "X-Webhook-Timestamp"
    """Name of the header with the time."""
    timestamp_unit: Literal["s", "ms"] = "s"
    """Unit of the signed time."""
    clock_skew: float = 0.0
    """Seconds by which the sender's clock is ahead when it signs; negative if it is behind."""
    resign: bool = True
    """Each try has a time and a signature of its own; if not, tries repeat those of the first."""

    # Delivering
    tries: int = Field(default=5, ge=1)
    """Number of tries of a delivery; Parallel is believed to make 16."""
    first_retry_wait: Seconds = 1.0
    """Seconds before the second try, doubled before each further one; Parallel is believed to
    wait 5."""
    delivery_timeout: float = Field(default=10.0, gt=0)
    """Seconds that a try waits for the receiver."""
    retry_client_errors: bool = True
    """A 4xx is retried, like everything else that is not 2xx."""
    delivery_delay: Span = (0.0, 0.0)
    """Seconds that a delivery is held back, as [least, most] or one number."""
    copies: int = Field(default=1, ge=1)
    """Number of times that every delivery is made."""
    dropped: Share = 0.0
    """Share of the webhooks that are never sent: 0.3 for 30 %."""
    doubled: Share = 0.0
    """Share of the webhooks that are sent twice; none of them is late."""
    late: Share = 0.0
    """Share of the webhooks that are held back by `late_by`."""
    late_by: Span = (5.0, 15.0)
    """Seconds by which those are late, as [least, most] or one number."""
    missigned: bool = False
    """Webhooks are signed with a wrong key, so that every one of them is refused."""
    reorder: int = Field(default=1, ge=1)
    """Number of deliveries that are gathered, and then sent in reverse order."""
    reorder_wait: Seconds = 0.5
    """Seconds after which gathered deliveries are sent although too few have come."""
    forgeries: int = Field(default=0, ge=0)
    """Number of forged deliveries that accompany each genuine one; they are not retried."""
    forgery_kinds: tuple[Forgery, ...] = Field(
        default=("wrong_key", "tampered", "unsigned"), min_length=1
    )
    """Kinds of forgery, used in turn."""

    @model_validator(mode="after")
    def _fits_together(self) -> "CommonSwitches":
        for name in ("duration", "delivery_delay", "late_by"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name}: the least ({least}) is more than the most ({most})")
        if self.dropped + self.doubled + self.late > 1:
            raise ValueError("dropped, doubled and late are more than 1 together")
        return self
