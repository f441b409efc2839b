"""One running sandbox: its switches, its state, and what ties them together."""

from collections import Counter
from typing import Any

from receiver.sandbox import views
from receiver.sandbox.announcements import Resource, parcel
from receiver.sandbox.answers import Refusal
from receiver.sandbox.contents import Contents
from receiver.sandbox.deliveries import Courier
from receiver.sandbox.faults import FaultPlan
from receiver.sandbox.research import Research
from receiver.sandbox.switches import Panel, Switches


class World:
    """Everything a request may need; made by `create_sandbox`, one for each app."""

    def __init__(self, switches: Switches) -> None:
        self._first = switches
        self._panel = Panel(switches)
        self.faults = FaultPlan()
        self.faults.replace(switches.faults)
        self.calls: Counter[str] = Counter()
        self.courier = Courier(self._panel)
        self.research = Research(self._panel, self.announce)
        self.contents = Contents(self._panel, self.announce)

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
            self.research.release()

    def announce(self, resource: Resource) -> None:
        """Sends the webhook of something that has ended, if it has one and they are on."""
        if self.switches.webhook and (found := parcel(resource, self.switches)):
            self.courier.send(found)

    def deliver(self, resource: Resource, *, times: int, changes: dict[str, Any]) -> None:
        """Sends a resource's webhook now, whatever its state and whether they are on or not."""
        found = parcel(resource, self.switches, changes=changes)
        if found is None:
            raise Refusal(400, "It was created without a webhook_url")
        for _ in range(times):
            self.courier.send(found)

    def state(self) -> dict[str, Any]:
        """What has happened so far, as JSON; secrets are left out."""
        tasks = Counter(task.status for task in self.research.tasks.values())
        return {
            "switches": self.switches.model_dump(mode="json"),
            "faults": self.faults.left(),
            "calls": dict(self.calls),
            "tasks": dict(tasks),
            "batches": [
                views.batch(batch, self.switches) for batch in self.research.batches.values()
            ],
            "jobs": len(self.contents.jobs),
            "pending_deliveries": self.courier.pending,
            "deliveries": self.courier.entries(),
        }

    async def reset(self) -> None:
        """Back to the switches it was started with, and to no state at all."""
        self.research.clear()
        self.contents.clear()
        await self.courier.clear()
        self.calls.clear()
        self._panel.switches = self._first
        self.faults.replace(self._first.faults)

    async def close(self) -> None:
        """Stops all that is under way."""
        self.research.clear()
        self.contents.clear()
        await self.courier.close()
