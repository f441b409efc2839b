"""Parallel, and access for programs: stored tasks, defaults, checks without endpoint, tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON_DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
LONE_CHECK = "kind = 'check' AND endpoint_id IS NULL AND status IN ('pending', 'running')"
KINDS = "kind IN ('batch', 'task', 'run', 'contents', 'account')"


def upgrade() -> None:
    _widen_endpoints()
    op.add_column("batches", sa.Column("task_id", sa.String(), nullable=True))
    op.add_column("batches", sa.Column("defaults", JSON_DOCUMENT, nullable=True))
    op.add_column("runs", sa.Column("waits_for", JSON_DOCUMENT, nullable=True))
    op.create_index(
        "uq_jobs_check_subject",
        "jobs",
        ["source", "subject"],
        unique=True,
        sqlite_where=sa.text(LONE_CHECK),
        postgresql_where=sa.text(LONE_CHECK),
    )
    op.create_index(
        "ix_jobs_checks_due",
        "jobs",
        ["source", "next_attempt_at"],
        sqlite_where=sa.text("kind = 'check' AND status = 'pending'"),
        postgresql_where=sa.text("kind = 'check' AND status = 'pending'"),
    )
    op.create_index(
        "ix_jobs_checks",
        "jobs",
        ["source", "subject"],
        sqlite_where=sa.text("kind = 'check'"),
        postgresql_where=sa.text("kind = 'check'"),
    )
    op.create_table(
        "tokens",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", JSON_DOCUMENT, nullable=False),
        sa.Column("source", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
    )


def _widen_endpoints() -> None:
    """SQLite changes a CHECK by making the table anew; Alembic does not see those that it has."""
    if op.get_bind().dialect.name != "sqlite":
        op.add_column("endpoints", sa.Column("task_id", sa.String(), nullable=True))
        op.drop_constraint(op.f("ck_endpoints_kind_known"), "endpoints", type_="check")
        op.create_check_constraint(op.f("ck_endpoints_kind_known"), "endpoints", KINDS)
        return
    with op.batch_alter_table("endpoints", copy_from=_endpoints(), recreate="always") as endpoints:
        endpoints.add_column(sa.Column("task_id", sa.String(), nullable=True))


def _endpoints() -> sa.Table:
    return sa.Table(
        "endpoints",
        sa.MetaData(),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("resource", sa.String(), nullable=True),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(KINDS, name=op.f("ck_endpoints_kind_known")),
        sa.CheckConstraint(
            "state IN ('pending', 'open', 'closed')", name=op.f("ck_endpoints_state_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoints")),
        sa.Index("ix_endpoints_source_resource", "source", "resource"),
    )
