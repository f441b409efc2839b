"""Explains refused requests, and lets in those that prove genuine after all.

Runs beside a serving process: its writes are short, and the worker finds the new jobs itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from receiver.errors import NotDone, SignatureError
from receiver.intake.endpoint_cache import CachedEndpoint, keys_for, with_keys
from receiver.intake.verification import HIDDEN, read_headers, verify_delivery
from receiver.signatures.diagnosis import Diagnosis, KnownSecret, RefusedRequest, diagnose
from receiver.signatures.schemes import Bearer
from receiver.signatures.verify import Key
from receiver.sources import Source, is_credential
from storage import CannotStore, EndpointView, RejectedDetail, Store, VerifiedDelivery


@dataclass(frozen=True, slots=True)
class Retried:
    """Outcome of a retry: `accepted`, `duplicate`, or why the request stays refused."""

    id: int
    outcome: str
    is_in: bool


class Rejected:
    """Use cases on the quarantine, by today's settings and secrets."""

    def __init__(self, store: Store, sources: Mapping[str, Source]) -> None:
        self._store = store
        self._sources = sources

    def retry(self, rejected_id: int) -> Retried:
        """Verify a request again, as if at the time of its receipt, and let it in if it is genuine.

        Raises NotFound. A second retry is harmless: it only counts as a duplicate.
        """
        row = self._store.quarantine.show(rejected_id)
        try:
            delivery = self._verified(row)
        except (NotDone, SignatureError) as refusal:
            return Retried(rejected_id, str(refusal), is_in=False)
        return Retried(rejected_id, self._store.quarantine.admit(rejected_id, delivery), is_in=True)

    def _verified(self, row: Mapping[str, Any]) -> VerifiedDelivery:
        source = self._source(row)
        if isinstance(source.scheme, Bearer):
            header = source.scheme.header.decode()
            raise NotDone(
                f"the token in its header {header} was not kept: the sender must try again"
            )
        if row["body_bytes"] > len(row["body"]):
            raise NotDone("its body was cut at 64 kB: the sender must try again")
        endpoint = self._endpoint(source, row)
        view = endpoint.view if endpoint else None
        verified = verify_delivery(
            source,
            view,
            _keys_today(source, endpoint),
            read_headers(row["headers"]),
            row["body"],
            now=row["received_at"].timestamp(),
        )
        return verified.delivery

    def _source(self, row: Mapping[str, Any]) -> Source:
        source = self._sources.get(row["source"])
        if source is None:
            raise NotDone(f"its source {row['source']} is not in the settings any more")
        return source

    def _endpoint(self, source: Source, row: Mapping[str, Any]) -> CachedEndpoint | None:
        """Return the request's endpoint, None for the account's URL; raises NotDone."""
        view = self._view(source, row)
        if view is None:
            return None
        if view.state == "closed":
            raise NotDone(f"its endpoint {view.id} is closed")
        if view.state == "pending" and not source.account_keys:
            raise NotDone(f"no secret is registered: resultsink endpoint secret {view.id}")
        try:
            return with_keys(view, source)
        except CannotStore as error:
            raise NotDone(str(error).removesuffix(".")) from None

    def _view(self, source: Source, row: Mapping[str, Any]) -> EndpointView | None:
        if row["endpoint_id"] is not None:
            view = self._store.endpoints.find(row["endpoint_id"])
            if view is None or view.source != source.name:
                raise NotDone(f"its endpoint {row['endpoint_id']} is unknown")
            return view
        if source.settings.lookup_by_body:  # as in the intake: one candidate, which proves nothing
            unverified = source.provider.identify(row["body"])
            if unverified is not None:
                return self._store.endpoints.find_by_resource(source.name, unverified.resource)
        return None

    def explain(self, rejected_id: int) -> tuple[RejectedDetail, Diagnosis | str]:
        """Return the kept request and why it was refused; raises NotFound.

        The reason is a sentence where its source or endpoint is gone, and nothing can be checked.
        """
        row = self._store.quarantine.show(rejected_id)
        try:
            source = self._source(row)
            endpoint = self._endpoint(source, row)
        except NotDone as reason:
            return row, f"Nothing can be checked: {reason}."
        secrets = self._secrets(source, endpoint)
        return row, diagnose(source.scheme, _request(row), secrets, _keys_today(source, endpoint))

    def _secrets(self, source: Source, endpoint: CachedEndpoint | None) -> list[KnownSecret]:
        """Return every secret of the source; those that count at this endpoint are marked."""
        now = datetime.now(UTC)
        secrets = [
            KnownSecret(text, f"the account's secret {place}", counts_here=True)
            for place, text in enumerate(source.account.texts, start=1)
        ]
        own = endpoint.view.id if endpoint else None
        for endpoint_id, secret in self._store.endpoints.secrets_of(source.name):
            is_valid = secret.valid_until is None or now < secret.valid_until
            place = "this endpoint's secret" if endpoint_id == own else f"endpoint {endpoint_id}"
            if not is_valid:
                place += f" (ended {secret.valid_until:%Y-%m-%d %H:%M} UTC)"
            secrets.append(
                KnownSecret(secret.text, place, counts_here=endpoint_id == own and is_valid)
            )
        return secrets


def _keys_today(source: Source, endpoint: CachedEndpoint | None) -> list[Key]:
    """Return the keys of now: those of secrets registered since count, those that ended do not."""
    return list(keys_for(source, endpoint, datetime.now(UTC).timestamp()))


def _request(row: Mapping[str, Any]) -> RefusedRequest:
    return RefusedRequest(
        id=row["id"],
        source=row["source"],
        endpoint_id=row["endpoint_id"],
        headers=read_headers(row["headers"]),
        body=row["body"],
        is_whole=row["body_bytes"] <= len(row["body"]),
        received_at=row["received_at"].timestamp(),
        reason=row["reason"],
        detail=row["detail"],
    )


def shown_headers(kept: str) -> list[tuple[str, str]]:
    """Return the kept headers for an operator; the values of credentials are hidden."""
    return [
        (name.decode("latin-1"), (HIDDEN if is_credential(name) else value).decode("latin-1"))
        for name, value in read_headers(kept)
    ]
