"""Target of a webhook request, and the outcomes that it can have."""

from dataclasses import dataclass

from receiver.intake.endpoint_cache import CachedEndpoint
from receiver.sources import Source


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a request, by its name in the table of statuses, and seconds for Retry-After."""

    outcome: str
    retry_after: int | None = None


ACCEPTED = Outcome("accepted")
DUPLICATE = Outcome("duplicate")
NOT_FOUND = Outcome("not found")
UNAUTHORIZED = Outcome("unauthorized")
NOT_STORED = Outcome("unavailable", retry_after=5)
SECRET_PENDING = Outcome("unavailable", retry_after=30)


@dataclass(slots=True)
class Target:
    """A source, and its endpoint unless the request came to the account's own URL."""

    source: Source
    endpoint: CachedEndpoint | None

    @property
    def endpoint_id(self) -> str | None:
        """The endpoint's id, None for the account's own URL."""
        return self.endpoint.view.id if self.endpoint else None

    @property
    def needs_look_up(self) -> bool:
        """True where the endpoint is to be looked up by what the unverified body says."""
        return self.endpoint is None and self.source.settings.lookup_by_body

    @property
    def is_pending(self) -> bool:
        """True while no secret is registered that could prove anything.

        Only the URL can name such an endpoint: a look-up by the body finds open ones alone, so that
        an id in an unverified body learns nothing.
        """
        if self.endpoint is None or self.endpoint.view.state != "pending":
            return False
        return not self.source.account_keys
