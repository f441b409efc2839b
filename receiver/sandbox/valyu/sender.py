"""Valyu as a whole: research, contents, and how both are announced."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from receiver.sandbox.deliveries import Parcel
from receiver.sandbox.switches import Panel
from receiver.sandbox.valyu import views
from receiver.sandbox.valyu.announcements import Resource, parcel
from receiver.sandbox.valyu.contents import Contents
from receiver.sandbox.valyu.state import Research


class Valyu:
    """Batches, tasks and contents jobs; hands each that has ended to `announce`."""

    def __init__(self, panel: Panel, announce: Callable[[Parcel], None]) -> None:
        self._panel = panel
        self._announce = announce
        self.research = Research(panel, self._ended)
        self.contents = Contents(panel, self._ended)

    def _ended(self, resource: Resource) -> None:
        if found := parcel(resource, self._panel.switches):
            self._announce(found)

    def parcels(self, name: str, changes: dict[str, Any]) -> list[Parcel] | None:
        """The delivery for a batch, task or contents job."""
        known = (self.research.batches, self.research.tasks, self.contents.jobs)
        resource: Resource | None = next((each[name] for each in known if name in each), None)
        if resource is None:
            return None
        found = parcel(resource, self._panel.switches, changes=changes)
        return [] if found is None else [found]

    def state(self) -> dict[str, Any]:
        """Tasks by status, batches as the API shows them, and how many contents jobs."""
        batches = self.research.batches.values()
        return {
            "tasks": dict(Counter(task.status for task in self.research.tasks.values())),
            "batches": [views.batch(batch, self._panel.switches) for batch in batches],
            "jobs": len(self.contents.jobs),
        }

    def release(self) -> None:
        """Sets held tasks going; contents jobs are never held."""
        self.research.release()

    def clear(self) -> None:
        """See `Sender`."""
        self.research.clear()
        self.contents.clear()
