"""Report of a reconciliation: what it looked at, what it brought, and what is left."""

from dataclasses import dataclass, field

from receiver.errors import FetchError, RateLimited


@dataclass(frozen=True, slots=True)
class Left:
    """Something that could not be looked at to its end, and why."""

    what: str
    why: str

    @classmethod
    def after(cls, what: str, error: FetchError) -> "Left":
        """Return what an error kept away, with the pause that the sender asked for."""
        seconds = error.retry_after if isinstance(error, RateLimited) else None
        pause = "" if seconds is None else f" (it asks to wait {seconds:.0f} s)"
        return cls(what, f"{error}{pause}")


@dataclass(slots=True)
class Report:
    """A reconciliation of one source.

    looked: batches, runs and endpoints that were looked at. found: runs that were not known here.
    fetched: results that were stored meanwhile. going_on: batches and runs at which the sender is
    still working. unbound: endpoints of which nobody knows yet what they are for. adopted: ids of
    batches that were not known here. calls: requests to the sender.
    """

    source: str
    looked: int = 0
    found: int = 0
    fetched: int = 0
    going_on: int = 0
    unbound: int = 0
    calls: int = 0
    adopted: list[str] = field(default_factory=list)
    incomplete: list[Left] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """True where everything was looked at, and all that has ended is here."""
        return not self.incomplete
