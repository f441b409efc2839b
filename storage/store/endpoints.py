"""Endpoints and their secrets."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from storage.batches import batches
from storage.endpoints import endpoints, secrets
from storage.endpoints.endpoints import EndpointView, SigningSecret
from storage.endpoints.secrets import EndpointListing
from storage.jobs import checks
from storage.runs import runs
from storage.store.attach import attach
from storage.store.base import Base
from storage.store.check_jobs import enqueue_check


class Endpoints(Base):
    """Endpoints and their secrets."""

    def add_endpoint(
        self,
        source: str,
        kind: str,
        *,
        resource: str | None = None,
        task_id: str | None = None,
        secret: str | None = None,
        check_every: float | None = None,
    ) -> str:
        """Make an endpoint with its check job; returns its id.

        Its secret is pending unless given. `task_id` is the stored task below which `resource`
        lives. `check_every` is in seconds, where the usual growing intervals are too long.
        """

        def work(connection: Connection) -> str:
            moment = self.now()
            endpoint_id = endpoints.add(
                connection,
                source=source,
                kind=kind,
                resource=resource,
                task_id=task_id,
                now=moment,
            )
            if secret is not None:
                endpoints.set_secret(connection, self.vault, endpoint_id, secret, now=moment)
            if resource is not None:
                self._know(connection, source, kind, resource, endpoint_id, task_id, moment)
            if kind != "account":
                enqueue_check(
                    connection, source, kind, resource, endpoint_id, moment, every=check_every
                )
            return endpoint_id

        return self.database.write(work)

    def add_endpoints(
        self, source: str, kind: str, secrets: Sequence[str], *, task_id: str | None = None
    ) -> list[str]:
        """Make an open endpoint for each secret, without a check of its own; returns their ids."""

        def work(connection: Connection) -> list[str]:
            moment = self.now()
            made = [
                endpoints.add(
                    connection,
                    source=source,
                    kind=kind,
                    resource=None,
                    task_id=task_id,
                    now=moment,
                )
                for _ in secrets
            ]
            for endpoint_id, secret in zip(made, secrets, strict=True):
                endpoints.set_secret(connection, self.vault, endpoint_id, secret, now=moment)
            return made

        return self.database.write(work)

    def set_secret(
        self,
        endpoint_id: str,
        text: str,
        *,
        resource: str | None = None,
        task_id: str | None = None,
    ) -> None:
        """Register a signing secret, and what the endpoint is for.

        Raises NotFound, or SecretRefused for one that was replaced or would not be tried.
        """

        def work(connection: Connection) -> None:
            moment = self.now()
            endpoints.set_secret(connection, self.vault, endpoint_id, text, now=moment)
            if resource is not None:
                self._bind(connection, endpoint_id, resource, moment, task_id=task_id)

        self.database.write(work)

    def bind_endpoint(self, endpoint_id: str, resource: str, *, task_id: str | None = None) -> None:
        """Say which resource an endpoint is for; raises NotFound where it is bound otherwise."""
        self.database.write(
            lambda c: self._bind(c, endpoint_id, resource, self.now(), task_id=task_id)
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
        attach(connection, self.vault, endpoint_id, resource, task_id=task_id, now=moment)
        view = endpoints.find(connection, self.vault, endpoint_id)
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
        """Expect what an endpoint is for: so that an export of it can say that it is missing."""
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

    def close_endpoint(self, endpoint_id: str) -> None:
        """Answer 404 at this endpoint from now on; raises NotFound.

        One that was never bound is not waited for any more: nobody will say what it was for.
        """

        def work(connection: Connection) -> None:
            moment = self.now()
            if endpoints.close(connection, endpoint_id, now=moment) is None:
                checks.end(connection, endpoint_id=endpoint_id, now=moment)

        self.database.write(work)

    def close_endpoints(self, endpoint_ids: Sequence[str]) -> None:
        """Answer 404 at these endpoints from now on."""

        def work(connection: Connection) -> None:
            for endpoint_id in endpoint_ids:
                endpoints.close(connection, endpoint_id, now=self.now())

        self.database.write(work)

    def rotate_secret(self, endpoint_id: str, text: str, *, old_until: datetime) -> None:
        """Register a new secret; the older ones end at `old_until`. Raises NotFound."""
        self.database.write(
            lambda c: secrets.rotate(
                c, self.vault, endpoint_id, text, old_until=old_until, now=self.now()
            )
        )

    def secrets_of(self, source: str) -> list[tuple[str, SigningSecret]]:
        """The newest secrets of a source's endpoints, decrypted, each with its endpoint's id."""
        with self.database.read() as connection:
            return secrets.of_source(connection, self.vault, source)

    def remember_reading(self, secret_id: int, reading: str) -> None:
        """Note which key reading of a secret verified a delivery."""
        self.database.write(lambda c: endpoints.remember_reading(c, secret_id, reading))

    def show_endpoint(self, endpoint_id: str) -> EndpointView | None:
        """An endpoint without its secrets, or None."""
        with self.database.read() as connection:
            return endpoints.show(connection, endpoint_id)

    def find_endpoint(self, endpoint_id: str) -> EndpointView | None:
        """An endpoint with its decrypted secrets, or None."""
        with self.database.read(urgent=True) as connection:
            return endpoints.find(connection, self.vault, endpoint_id)

    def find_endpoint_of(self, source: str, resource: str) -> EndpointView | None:
        """The open endpoint that expects `resource`, or None."""
        with self.database.read(urgent=True) as connection:
            return endpoints.find_by_resource(connection, self.vault, source, resource)

    def list_endpoints(self, *, source: str | None = None) -> list[EndpointListing]:
        """All endpoints, newest first, with all that may be shown of their secrets."""
        with self.database.read() as connection:
            rows = endpoints.list_all(connection, source=source)
            return secrets.describe(connection, rows, source=source)

    def has_endpoints(self, source: str) -> bool:
        """Whether a source has an endpoint at all, however many they are."""
        with self.database.read() as connection:
            return endpoints.is_any(connection, source)

    def endpoints_revision(self) -> int:
        """A number that changes whenever an endpoint or a secret does."""
        with self.database.read(urgent=True) as connection:
            return endpoints.revision(connection)
