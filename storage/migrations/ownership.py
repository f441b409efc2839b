"""Which tables are ours: other programs, too, have tables with names such as `jobs` and `meta`."""

from collections.abc import Mapping

COLUMNS = {
    "alembic_version": {"version_num"},
    "meta": {"key", "value"},
    "endpoints": {"resource", "state"},
    "secrets": {"endpoint_id", "ciphertext", "valid_from"},
    "events": {"source", "key", "key_digest", "disposition"},
    "deliveries": {"event_id", "digest", "body", "copies"},
    "jobs": {"kind", "subject_kind", "claims", "lease_token"},
    "runs": {"source", "run_id", "batch_id"},
    "results": {"run_pk", "version", "is_current", "raw"},
}
"""Tables, each with some of its columns, that every version of ours has."""


def are_ours(columns: Mapping[str, set[str]]) -> bool:
    """Return True for tables of ours, of any version; others may stand beside them."""
    return all(columns.get(table, set()) >= named for table, named in COLUMNS.items())
