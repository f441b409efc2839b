"""Taking in: deliveries, what was refused, and reading about them."""

from collections.abc import Callable, Sequence

from sqlalchemy import Connection

from storage.deliveries import events, quarantine, recording
from storage.deliveries.events import EventDetail, EventRow
from storage.deliveries.quarantine import RejectedDetail, RejectedRow, UnverifiedDelivery
from storage.deliveries.recording import VerifiedDelivery
from storage.errors import CannotStore
from storage.store.base import Base


class Intake(Base):
    """Taking in: deliveries, what was refused, and reading about them."""

    def record_deliveries(
        self,
        group: Sequence[VerifiedDelivery],
        done: Callable[[list[str | Exception] | None, BaseException | None], None],
    ) -> None:
        """Store a group in one transaction, before all other work; returns at once.

        After the COMMIT `done(outcomes, None)` is called on the writer's thread: `accepted`,
        `duplicate`, or the error of that row alone. When nothing was stored: `done(None, error)`.
        """
        moment = self.now()

        def singly(outcomes: list[str | Exception] | None, error: BaseException | None) -> None:
            if not isinstance(error, recording.ROW_ERRORS):
                done(outcomes, error)
                return
            try:
                self.database.submit(lambda c: recording.record_singly(c, group, now=moment), done)
            except CannotStore as ended:
                done(None, ended)

        self.database.submit(lambda c: recording.record(c, group, now=moment), singly)

    def quarantine(self, refused: UnverifiedDelivery) -> None:
        """Keep a refused request within the quarantine's bounds."""
        self.database.write(lambda c: quarantine.keep(c, refused, now=self.now()))

    def list_rejected(self, *, limit: int = 100) -> list[RejectedRow]:
        """The newest refused requests, without their bodies."""
        with self.database.read() as connection:
            return quarantine.list_all(connection, limit=limit)

    def rejected_ids(self, *, source: str | None = None) -> list[int]:
        """All refused requests that are kept, oldest first."""
        with self.database.read() as connection:
            return quarantine.ids(connection, source=source)

    def show_rejected(self, rejected_id: int) -> RejectedDetail:
        """One refused request with headers and body; raises NotFound."""
        with self.database.read() as connection:
            return quarantine.show(connection, rejected_id)

    def admit(self, rejected_id: int, delivery: VerifiedDelivery) -> str:
        """Let in what was refused once and has proven genuine: `accepted` or `duplicate`.

        It leaves the quarantine in the same transaction; raises NotFound where it had left before.
        """

        def work(connection: Connection) -> str | Exception:
            quarantine.remove(connection, rejected_id)
            (outcome,) = recording.record(connection, [delivery], now=self.now())
            return outcome

        try:
            return str(self.database.write(work))
        except recording.ROW_ERRORS as error:
            raise CannotStore(f"The delivery could not be stored: {error}.") from error

    def list_events(self, *, source: str | None = None, limit: int = 100) -> list[EventRow]:
        """The newest events, each with the number of its deliveries and the states of its jobs."""
        with self.database.read() as connection:
            return events.list_events(connection, source=source, limit=limit)

    def show_event(self, event_id: int) -> EventDetail:
        """One event with deliveries, jobs and attempts; raises NotFound."""
        with self.database.read() as connection:
            return events.show_event(connection, event_id)

    def carried_bodies(self, event_id: int) -> list[bytes]:
        """What the deliveries of an event carried, as far as it is kept, newest first."""
        with self.database.read() as connection:
            return events.carried_bodies(connection, event_id)
