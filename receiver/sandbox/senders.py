"""What the world asks of each sender that it plays; `World` lists them."""

from typing import Any, Protocol

from receiver.sandbox.deliveries import Parcel


class Sender(Protocol):
    """One simulated sender: its state, and the webhooks that announce it."""

    def parcels(self, name: str, changes: dict[str, Any]) -> list[Parcel] | None:
        """Deliveries that announce, as it stands, what has this id.

        `changes` replaces keys of the announced object. None if the id is not of this sender;
        empty if nobody asked for a webhook.
        """

    def state(self) -> dict[str, Any]:
        """The sender's part of `World.state`, as JSON and without secrets."""

    def release(self) -> None:
        """Sets going what the switch `hold` held back."""

    def clear(self) -> None:
        """Forgets everything; what was going on ends without a word."""
