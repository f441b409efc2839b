"""How a delivery shows that it is genuine, and how one is forged: a file for each sender.

The courier knows no scheme. What it delivers says by itself how it is signed: Valyu's in
`valyu_signing`, Parallel's in `parallel_signing`.
"""

import time
from typing import Protocol

from receiver.sandbox.switches import Forgery, Switches


class Signing(Protocol):
    """How one delivery is signed: a scheme with the secrets (and the event's id) for it."""

    def headers(self, switches: Switches, body: bytes) -> dict[str, str]:
        """All headers of a genuine delivery of these bytes made now; asked for at each try."""

    def forge(
        self, kind: Forgery, switches: Switches, body: bytes
    ) -> tuple[dict[str, str], bytes] | None:
        """Headers and body of a delivery that must not be believed; None if none can be told."""


def clock(switches: Switches) -> float:
    """Seconds since 1970 by the sender's clock, which may be wrong."""
    return time.time() + switches.clock_skew
