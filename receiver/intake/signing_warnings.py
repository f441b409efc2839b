"""Warnings about the signing of genuine deliveries, once or seldom, never for each."""

from typing import Any

from receiver.intake.endpoint_cache import CachedEndpoint
from receiver.signatures.verify import Match
from receiver.sources import Source
from receiver.telemetry.logs import get_logger
from receiver.telemetry.throttle import Throttle

SKEW_SECONDS = 60.0
"""Difference between two clocks that is worth a warning."""

NEWEST_OF_ACCOUNT = -1
"""`secret_id` of an account's newest secret: see AccountKeys."""

log = get_logger("intake")


class SigningWarnings:
    """Looks at each match, cheaply, and logs what is new or needs the operator."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._throttle = Throttle()

    def notice(self, source: Source, endpoint: CachedEndpoint | None, match: Match) -> None:
        """Log the source's first genuine delivery, a clock that is off, a secret that is old."""
        if source.name not in self._known:
            self._known.add(source.name)
            log.info(
                "first genuine delivery of the source",
                source=source.name,
                scheme=source.scheme.name,
                reading=match.key.reading,
                skew=None if match.skew is None else round(match.skew, 1),
            )
        if match.skew is not None and abs(match.skew) > SKEW_SECONDS:
            self._warn(
                "clocks differ, or the sender tries again with its first timestamp",
                source.name,
                skew=round(match.skew, 1),
                tolerance=getattr(source.scheme, "tolerance", None),
            )
        used = match.key.secret_id
        if used < NEWEST_OF_ACCOUNT:
            self._warn(
                "signed with an older secret of the account: the sender does not use the first yet",
                source.name,
                place=-used,
            )
        elif used > 0 and endpoint is not None and used != endpoint.newest:
            self._warn(
                "signed with an older secret",
                source.name,
                endpoint=endpoint.view.id,
                valid_until=_end(endpoint, used),
            )

    def _warn(self, sentence: str, source: str, **said: Any) -> None:
        self._throttle.log(log.warning, f"{source} {sentence}", sentence, source=source, **said)


def _end(endpoint: CachedEndpoint, secret_id: int) -> str:
    until = next(k.secret.valid_until for k in endpoint.secrets if k.secret.id == secret_id)
    return "without end" if until is None else until.isoformat()
