"""Questions to Postgres' catalogue: which tables a schema holds, and what our user may do."""

from collections import defaultdict

from sqlalchemy import Connection

_COLUMNS = """
SELECT c.relname, a.attname
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

_OWNED = """
SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s
"""

_RIGHTS = """
SELECT pg_catalog.has_schema_privilege(oid, 'USAGE'),
       pg_catalog.has_schema_privilege(oid, 'CREATE')
FROM pg_catalog.pg_namespace WHERE nspname = %s
"""

_MAY_CREATE = "SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE')"


def tables_of(connection: Connection, schema: str) -> dict[str, set[str]]:
    """Return the columns of each table and view in `schema`, whoever may read them."""
    found: dict[str, set[str]] = defaultdict(set)
    for table, column in connection.exec_driver_sql(_COLUMNS, (schema,)):
        found[table].add(column)
    return dict(found)


def may_change(connection: Connection, schema: str, table: str) -> bool:
    """Return True where our user owns the table, or is a member of the role that does."""
    return bool(connection.exec_driver_sql(_OWNED, (schema, table)).scalar())


def rights_in(connection: Connection, schema: str) -> tuple[bool, bool] | None:
    """Return whether our user may use the schema, and make tables in it; None without one."""
    found = connection.exec_driver_sql(_RIGHTS, (schema,)).one_or_none()
    return None if found is None else (bool(found[0]), bool(found[1]))


def may_create_schemas(connection: Connection) -> bool:
    """Return True where our user may make a schema in this database."""
    return bool(connection.exec_driver_sql(_MAY_CREATE).scalar())
