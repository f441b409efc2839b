"""The bare yardstick's statements for Postgres.

One statement in autocommit per group, prepared, its parameters three binary arrays: the events, and
from what came back of them the jobs. synchronous_commit is the server's, which is on.
"""

from collections.abc import Callable, Sequence

import psycopg

SCHEMA = b"""
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key bigint NOT NULL UNIQUE, at double precision NOT NULL, body bytea NOT NULL);
CREATE TABLE jobs (event bigint PRIMARY KEY,
    status smallint NOT NULL, due double precision NOT NULL);
"""
INSERT = b"""
WITH new AS (
    INSERT INTO events (key, at, body)
    SELECT * FROM unnest(%b::bigint[], %b::double precision[], %b::bytea[])
    ON CONFLICT DO NOTHING RETURNING id, at)
INSERT INTO jobs (event, status, due) SELECT id, 0, at FROM new
"""


def create(url: str) -> Callable[[Sequence[tuple[int, float, bytes]]], None]:
    """Make the tables; give what inserts a group, always called from one thread."""
    connection = psycopg.connect(url, autocommit=True, prepare_threshold=0)
    connection.execute(SCHEMA, prepare=False)

    def insert(rows: Sequence[tuple[int, float, bytes]]) -> None:
        connection.execute(INSERT, [list(column) for column in zip(*rows, strict=True)])

    return insert
