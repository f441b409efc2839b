"""Pruning: when a body or a result was emptied, and an index of superseded results."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("deliveries", "results"):
        op.add_column(table, sa.Column("pruned_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_results_superseded",
        "results",
        ["id"],
        sqlite_where=sa.text("NOT is_current"),
        postgresql_where=sa.text("NOT is_current"),
    )
