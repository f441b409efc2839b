"""New events on Postgres: one statement inserts a group with its deliveries and jobs."""

from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache

from sqlalchemy import Connection

from storage.database.postgres.names import prefix
from storage.deliveries.recording.verified import VerifiedDelivery
from storage.jobs.new import NewJob
from storage.json_text import clean

_JOB = {
    "kind": "'fetch'",
    "source": "source",
    "subject_kind": "subject_kind",
    "subject": "subject",
    "endpoint_id": "endpoint_id",
    "event_id": "id",
    "status": "status",
    "next_attempt_at": "received_at",
    "progress": "progress::json",
    "reason": "reason",
    "created_at": "received_at",
    "ended_at": "CASE status WHEN 'dead' THEN received_at END",
    **{name: str(zero) for name, zero in NewJob._field_defaults.items()},
}
"""The expression of each job column, over the new event and the given row."""

_INSERT = f"""
WITH given AS MATERIALIZED (
  SELECT * FROM unnest(
    %b::text[], %b::text[], %b::text[], %b::bytea[], %b::text[], %b::bytea[], %b::text[],
    %b::bytea[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[]
  ) AS t (source, endpoint_id, key, key_digest, disposition, digest, headers, body,
          subject_kind, subject, status, progress, reason)
), new AS (
  INSERT INTO {{0}}events (source, endpoint_id, key, key_digest, disposition, received_at)
  SELECT source, endpoint_id, key, key_digest, disposition, %b::timestamptz FROM given
  ON CONFLICT (key_digest) DO NOTHING
  RETURNING id, key_digest, received_at
), kept AS (
  INSERT INTO {{0}}deliveries (event_id, digest, headers, body, received_at, copies)
  SELECT id, digest, headers, body, received_at, 0 FROM new JOIN given USING (key_digest)
), caused AS (
  INSERT INTO {{0}}jobs ({", ".join(NewJob._fields)})
  SELECT {", ".join(_JOB[name] for name in NewJob._fields)}
  FROM new JOIN given USING (key_digest) WHERE status IS NOT NULL
)
SELECT key_digest FROM new
"""  # noqa: S608  all of it stands here


@cache
def _statement(schema: str) -> str:
    """Return the statement for tables that have `schema` before their names."""
    return _INSERT.format(schema)


def insert_new(
    connection: Connection, group: Mapping[bytes, VerifiedDelivery], now: datetime
) -> Collection[bytes]:
    """Insert the events that are not there yet; returns their key digests.

    They are inserted in the order of their digests, so that groups of two machines that share some
    do not deadlock.
    """
    digests = sorted(group)
    deliveries = [group[digest] for digest in digests]
    columns = (
        [clean(delivery.source) for delivery in deliveries],
        [delivery.endpoint_id for delivery in deliveries],
        [clean(delivery.key) for delivery in deliveries],  # the digest is of the key as it came
        digests,
        [delivery.disposition for delivery in deliveries],
        [delivery.digest for delivery in deliveries],
        [delivery.headers for delivery in deliveries],
        [delivery.body for delivery in deliveries],
        [delivery.subject_kind for delivery in deliveries],
        [clean(delivery.subject) for delivery in deliveries],
        [delivery.job_status for delivery in deliveries],
        [delivery.progress for delivery in deliveries],
        [delivery.reason for delivery in deliveries],
    )
    new = connection.exec_driver_sql(_statement(prefix(connection)), (*columns, now))
    return {row[0] for row in new}
