"""Many processes: rate limits of sources, and an order of jobs that are due at one time."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


DUE = {
    "ix_jobs_pending": "status = 'pending'",
    "ix_jobs_checks_due": "kind = 'check' AND status = 'pending'",
}


def upgrade() -> None:
    for name, condition in DUE.items():
        op.drop_index(name, "jobs")
        op.create_index(
            name,
            "jobs",
            ["source", "next_attempt_at", "id"],
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
    op.create_table(
        "paces",
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("next_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("source", name=op.f("pk_paces")),
    )
