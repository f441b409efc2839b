"""Interface of a simulated sender: its state, its webhooks, and how each webhook is signed."""

from dataclasses import dataclass
from typing import Any, Protocol

from receiver.sandbox.switches import Forgery, Switches

UNREADABLE = b"\xff\xfe this is neither JSON nor UTF-8 {"
"""Body of a webhook that nobody can read."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """Headers and body of one delivery, genuine or forged."""

    headers: dict[str, str]
    body: bytes


class Signing(Protocol):
    """Signing scheme of one delivery, with the secrets and the event id that it needs.

    `at` is the sender's time in seconds since 1970.
    """

    def headers(self, switches: Switches, body: bytes, *, at: float) -> dict[str, str]:
        """Return all headers of a genuine delivery of these bytes; called for each try."""

    def forge(
        self, kind: Forgery, switches: Switches, body: bytes, *, at: float
    ) -> SignedRequest | None:
        """Return a delivery that a receiver must refuse.

        None if a receiver could not tell such a forgery from a genuine delivery.
        """


@dataclass(frozen=True, slots=True)
class Parcel:
    """One webhook to deliver; every try sends the same body.

    `signing` makes new headers for each try. `tries` replaces the switch of that name.
    """

    kind: str
    resource: str
    url: str
    body: bytes
    signing: Signing
    tries: int | None = None


class Sender(Protocol):
    """One simulated sender."""

    def parcels(self, name: str, changes: dict[str, Any]) -> list[Parcel] | None:
        """Return the webhooks that announce the resource with this id in its present state.

        `changes` replaces keys of the announced object. None if the id is unknown to this sender;
        empty if its creation named no webhook URL.
        """

    def state(self) -> dict[str, Any]:
        """Return this sender's part of `World.state`: JSON without secrets."""

    def release(self) -> None:
        """Start everything that the switch `hold` kept from starting."""

    def clear(self) -> None:
        """Forget everything, and announce nothing more."""
