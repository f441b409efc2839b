"""Endpoints and their secrets."""

from datetime import datetime

from sqlalchemy import Connection

from storage.batches import batches
from storage.endpoints import endpoints, secrets
from storage.endpoints.endpoints import EndpointView, SigningSecret
from storage.endpoints.secrets import EndpointListing
from storage.jobs import checks
from storage.runs import runs
from storage.store.attach import attach
from storage.store.check_jobs import enqueue_check
from storage.store.part import StorePart


class EndpointStore(StorePart):
    """Endpoints and their secrets."""

    def add(
        self,
        source: str,
        kind: str,
        *,
        resource: str | None = None,
        task_id: str | None = None,
        secret: str | None = None,
        endpoint_id: str | None = None,
    ) -> str:
        """Make an endpoint with its check job; returns its id.

        Its secret is pending unless given. `task_id` is the stored task below which `resource`
        lives. Where its id was reserved and has been used, nothing is made.
        """
        chosen = endpoint_id or endpoints.new_id()

        def work(connection: Connection) -> str:
            moment = self._now()
            if endpoint_id is not None and endpoints.show(connection, endpoint_id) is not None:
                return endpoint_id
            endpoints.add(
                connection,
                endpoint_id=chosen,
                source=source,
                kind=kind,
                resource=resource,
                task_id=task_id,
                now=moment,
            )
            if secret is not None:
                endpoints.set_secret(connection, self._vault, chosen, secret, now=moment)
            if resource is not None:
                self._know(connection, source, kind, resource, chosen, task_id, moment)
            if kind != "account":
                enqueue_check(
                    connection, source, kind, resource, chosen, moment, first=self._first_check
                )
            return chosen

        return self._database.write(work)

    def set_secret(
        self,
        endpoint_id: str,
        text: str,
        *,
        resource: str | None = None,
        task_id: str | None = None,
    ) -> None:
        """Add a signing secret and, where given, bind the endpoint to its resource.

        Raises NotFound, or SecretRefused for one that was replaced or would not be tried.
        """

        def work(connection: Connection) -> None:
            moment = self._now()
            endpoints.set_secret(connection, self._vault, endpoint_id, text, now=moment)
            if resource is not None:
                self._bind(connection, endpoint_id, resource, moment, task_id=task_id)

        self._database.write(work)

    def bind(self, endpoint_id: str, resource: str, *, task_id: str | None = None) -> None:
        """Bind an endpoint to its resource; raises NotFound where it is bound to another."""
        self._database.write(
            lambda c: self._bind(c, endpoint_id, resource, self._now(), task_id=task_id)
        )

    def _bind(
        self,
        connection: Connection,
        endpoint_id: str,
        resource: str,
        moment: datetime,
        *,
        task_id: str | None = None,
    ) -> None:
        attach(connection, self._vault, endpoint_id, resource, task_id=task_id, now=moment)
        view = endpoints.find(connection, self._vault, endpoint_id)
        if view is not None:
            self._know(
                connection, view.source, view.kind, resource, endpoint_id, view.task_id, moment
            )

    @staticmethod
    def _know(
        connection: Connection,
        source: str,
        kind: str,
        resource: str,
        endpoint_id: str,
        task_id: str | None,
        moment: datetime,
    ) -> None:
        """Expect what an endpoint is for, so that it can be reported as missing."""
        if kind == "batch":
            batches.register(
                connection,
                source=source,
                batch_id=resource,
                endpoint_id=endpoint_id,
                task_id=task_id,
                now=moment,
            )
            checks.adopt(connection, source, resource, now=moment)
        elif kind != "account":
            runs.expect(connection, source, resource, task_id=task_id)

    def close(self, endpoint_id: str) -> None:
        """Answer 404 at this endpoint from now on; raises NotFound.

        The checks of one that was never bound end, since nothing can tell any more what it was for.
        """

        def work(connection: Connection) -> None:
            moment = self._now()
            if endpoints.close(connection, endpoint_id, now=moment) is None:
                checks.end(connection, endpoint_id=endpoint_id, now=moment)

        self._database.write(work)

    def rotate_secret(self, endpoint_id: str, text: str, *, old_until: datetime) -> None:
        """Add a secret; the older ones end at `old_until`. Raises NotFound."""
        self._database.write(
            lambda c: secrets.rotate(
                c, self._vault, endpoint_id, text, old_until=old_until, now=self._now()
            )
        )

    def secrets_of(self, source: str) -> list[tuple[str, SigningSecret]]:
        """Return the newest secrets of a source, decrypted, each with its endpoint's id."""
        with self._database.read() as connection:
            return secrets.of_source(connection, self._vault, source)

    def remember_reading(self, secret_id: int, reading: str) -> None:
        """Store which key reading of a secret verified a delivery."""
        self._database.write(lambda c: endpoints.remember_reading(c, secret_id, reading))

    def show(self, endpoint_id: str) -> EndpointView | None:
        """Return an endpoint without its secrets, or None."""
        with self._database.read() as connection:
            return endpoints.show(connection, endpoint_id)

    def find(self, endpoint_id: str, *, urgent: bool = False) -> EndpointView | None:
        """Return an endpoint with its decrypted secrets, or None.

        `urgent` is for a delivery that waits: it has the intake's connections, and its limits.
        """
        with self._database.read(urgent=urgent) as connection:
            return endpoints.find(connection, self._vault, endpoint_id)

    def find_by_resource(
        self, source: str, resource: str, *, urgent: bool = False
    ) -> EndpointView | None:
        """Return the newest open endpoint that expects `resource`, with its secrets, or None.

        `urgent` as for `find`.
        """
        with self._database.read(urgent=urgent) as connection:
            return endpoints.find_by_resource(connection, self._vault, source, resource)

    def list_all(self, *, source: str | None = None) -> list[EndpointListing]:
        """Return all endpoints, newest first, with their secrets but for the texts of these."""
        with self._database.read() as connection:
            rows = endpoints.list_all(connection, source=source)
            return secrets.describe(connection, rows, source=source)

    def has_any(self, source: str) -> bool:
        """Return True where a source has an endpoint at all."""
        with self._database.read() as connection:
            return endpoints.is_any(connection, source)

    def revision(self) -> int:
        """Return a number that changes whenever an endpoint or a secret does."""
        with self._database.read(urgent=True) as connection:
            return endpoints.revision(connection)
