"""Deliveries on their way into a database, before all other work."""

from collections.abc import Callable, Sequence

from storage.database import Database
from storage.deliveries import recording
from storage.deliveries.recording import VerifiedDelivery
from storage.errors import CannotStore


class DeliveryStore:
    """The deliveries of a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(
        self,
        group: Sequence[VerifiedDelivery],
        done: Callable[[list[str | Exception] | None, BaseException | None], None],
    ) -> None:
        """Store a group in one transaction, before all other work; returns at once.

        After the COMMIT `done(outcomes, None)` is called on the writer's thread: `accepted`,
        `duplicate`, or the error of that row alone. When nothing was stored: `done(None, error)`.
        """
        moment = self._database.now()

        def on_end(outcomes: list[str | Exception] | None, error: BaseException | None) -> None:
            if not isinstance(error, recording.ROW_ERRORS):
                done(outcomes, error)
                return
            try:
                self._database.submit(lambda c: recording.record_singly(c, group, now=moment), done)
            except CannotStore as ended:
                done(None, ended)

        self._database.submit(lambda c: recording.record(c, group, now=moment), on_end)
