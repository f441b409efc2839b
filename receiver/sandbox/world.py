"""One running sandbox: its switches, its senders, and what ties them together."""

from collections import Counter
from typing import Any

from receiver.sandbox.answers import Refusal
from receiver.sandbox.deliveries import Courier, Parcel
from receiver.sandbox.faults import FaultPlan
from receiver.sandbox.parallel.sender import Parallel
from receiver.sandbox.parallel_v0.sender import ParallelV0
from receiver.sandbox.senders import Sender
from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu.sender import Valyu


class World:
    """Everything a request may need; made by `create_sandbox`, one for each app."""

    def __init__(self, switches: Switches) -> None:
        self._first = switches
        self._panel = Panel(switches)
        self.faults = FaultPlan()
        self.faults.replace(switches.faults)
        self.calls: Counter[str] = Counter()
        self.courier = Courier(self._panel)
        self.valyu = Valyu(self._panel, self.announce)
        self.parallel = Parallel(self._panel, self.announce)
        self.v0 = ParallelV0(self._panel, self.announce)
        self._senders: tuple[Sender, ...] = (self.valyu, self.parallel, self.v0)

    @property
    def switches(self) -> Switches:
        """The switches as they stand."""
        return self._panel.switches

    def change(self, values: dict[str, Any]) -> None:
        """Replaces some switches; faults are planned anew only if they are among them."""
        held = self.switches.hold
        self._panel.change(values)
        if "faults" in values:
            self.faults.replace(self.switches.faults)
        if held and not self.switches.hold:
            for sender in self._senders:
                sender.release()

    def announce(self, parcel: Parcel) -> None:
        """Sends the webhook of something that has ended, if they are on."""
        if self.switches.webhook:
            self.courier.send(parcel)

    def deliver(self, name: str, *, times: int, changes: dict[str, Any]) -> None:
        """Sends the webhooks of what has this id, whatever its state and the switch `webhook`."""
        found = [sender.parcels(name, changes) for sender in self._senders]
        parcels = next((each for each in found if each is not None), None)
        if parcels is None:
            raise Refusal(404, f"{name} is the id of nothing: not found")
        if not parcels:
            raise Refusal(400, "It was created without a webhook_url")
        for _ in range(times):
            for parcel in parcels:
                self.courier.send(parcel)

    def state(self) -> dict[str, Any]:
        """What has happened so far, as JSON; secrets are left out."""
        shown: dict[str, Any] = {
            "switches": self.switches.model_dump(mode="json"),
            "faults": self.faults.left(),
            "calls": dict(self.calls),
            "pending_deliveries": self.courier.pending,
            "deliveries": self.courier.entries(),
        }
        for sender in self._senders:
            shown |= sender.state()
        return shown

    async def reset(self) -> None:
        """Back to the switches it was started with, and to no state at all."""
        self._forget()
        await self.courier.clear()
        self.calls.clear()
        self._panel.switches = self._first
        self.faults.replace(self._first.faults)

    async def close(self) -> None:
        """Stops all that is under way."""
        self._forget()
        await self.courier.close()

    def _forget(self) -> None:
        for sender in self._senders:
            sender.clear()
