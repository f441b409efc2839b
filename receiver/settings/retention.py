"""Settings of retention: days after which something is pruned."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_DAYS = 36_500


def days(given: Any) -> float | None:
    """Return a number of days, or None for ever; raises ValueError, which says what to write."""
    if given is None or given == "never":
        return None
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 < number <= MAX_DAYS:
        raise ValueError(f"is no number of days above 0, up to {MAX_DAYS}, and not the word never")
    return number


Days = Annotated[float | None, BeforeValidator(days)]


class RetentionSettings(BaseModel):
    """Days after which something is pruned; None keeps it for ever."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    deliveries: Days = Field(
        default=30, description="bodies and headers of deliveries whose work is done"
    )
    attempts: Days = Field(default=30, description="attempts of ended jobs")
    events: Days = Field(
        default=90, description="events, counted from their last delivery, and ended jobs"
    )
    results: Days = Field(
        default=None, description="the content of results whose batch is not open"
    )
    versions: Days = Field(
        default=None, description="versions of results, counted from when they were superseded"
    )
