"""The weather between sender and receiver: webhooks that are lost, come twice, or come late."""

from dataclasses import dataclass

from receiver.sandbox.content import dice
from receiver.sandbox.switches import Switches


@dataclass(frozen=True, slots=True)
class Fate:
    """The fate of one webhook: how often it is sent, and how many seconds it is held back."""

    copies: int = 1
    late: float = 0.0


def fate(switches: Switches, number: int) -> Fate:
    """Return the fate of the webhook with this number; the same seed gives the same fates."""
    chance = dice(switches.seed, "weather", number)
    drawn = chance.random()
    if drawn < switches.dropped:
        return Fate(copies=0)
    if drawn < switches.dropped + switches.doubled:
        return Fate(copies=2)
    if drawn < switches.dropped + switches.doubled + switches.late:
        return Fate(late=chance.uniform(*switches.late_by))
    return Fate()
