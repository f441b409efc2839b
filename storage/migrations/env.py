"""Alembic's entry: runs the scripts on the caller's connection."""

from alembic import context
from sqlmodel import SQLModel

import storage.models  # noqa: F401  the import fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    version_table_schema=context.config.attributes.get("schema"),
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    # The caller owns the transaction: a failed script leaves nothing behind.
    transactional_ddl=True,
)
context.run_migrations()
