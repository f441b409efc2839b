"""One running sandbox: its switches, its clock, its senders, and what connects them."""

from collections import Counter
from typing import Any

from receiver.sandbox.clock import SandboxClock
from receiver.sandbox.deliveries import Courier
from receiver.sandbox.faults import FaultPlan
from receiver.sandbox.parallel.sender import ParallelSender
from receiver.sandbox.parallel_v0.sender import V0Sender
from receiver.sandbox.responses import Refusal
from receiver.sandbox.senders import Parcel, Sender
from receiver.sandbox.switches import Panel, Switches
from receiver.sandbox.valyu.sender import ValyuSender


class World:
    """State of one sandbox; `create_sandbox` makes one for each application."""

    def __init__(self, switches: Switches, clock: SandboxClock) -> None:
        self._first = switches
        self.panel = Panel(switches, clock)
        self.clock = clock
        self.faults = FaultPlan()
        self.faults.replace(switches.faults)
        self.calls: Counter[str] = Counter()
        self.courier = Courier(self.panel)
        self.valyu = ValyuSender(self.panel, self.announce)
        self.parallel = ParallelSender(self.panel, self.announce)
        self.v0 = V0Sender(self.panel, self.announce)
        self._senders: tuple[Sender, ...] = (self.valyu, self.parallel, self.v0)

    @property
    def switches(self) -> Switches:
        """The present switches."""
        return self.panel.switches

    def change(self, values: dict[str, Any]) -> None:
        """Replace some switches; the plan of faults is replaced only if `faults` is among them."""
        held = self.switches.hold
        self.panel.change(values)
        if "faults" in values:
            self.faults.replace(self.switches.faults)
        if held and not self.switches.hold:
            for sender in self._senders:
                sender.release()

    def announce(self, parcel: Parcel) -> None:
        """Send the webhook of a resource that has ended, unless the switch `webhook` is off."""
        if self.switches.webhook:
            self.courier.send(parcel)

    def deliver(self, name: str, *, times: int, changes: dict[str, Any]) -> None:
        """Send the webhooks of a resource, whatever its state and the switch `webhook`.

        Raises Refusal if no resource has this id, or if its creation named no webhook URL.
        """
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
        """Return what has happened so far as JSON without secrets."""
        self.clock.run_due()
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
        """Forget all state, and return to the first switches."""
        self._forget()
        await self.courier.clear()
        self.calls.clear()
        self.panel.switches = self._first
        self.faults.replace(self._first.faults)

    async def close(self) -> None:
        """Stop everything that is under way."""
        self._forget()
        await self.courier.close()

    def _forget(self) -> None:
        for sender in self._senders:
            sender.clear()
