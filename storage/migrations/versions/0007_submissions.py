"""Submissions that survive a crash, and idempotency keys of programs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON_DOCUMENT = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
ORDERED_DOCUMENT = sa.JSON(none_as_null=True)
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    pending = sa.Column("pending", sa.Integer(), nullable=False, server_default=sa.text("0"))
    op.add_column("batches", pending)
    op.execute("DELETE FROM meta WHERE key LIKE 'addition %'")  # keys of added tasks, kept a day
    _submissions()
    _idempotency_keys()


def _submissions() -> None:
    op.create_table(
        "submissions",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("batch_id", sa.String(), nullable=True),
        sa.Column("endpoint_id", sa.String(), nullable=True),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("plan", ORDERED_DOCUMENT, nullable=False),
        sa.Column("defaults", JSON_DOCUMENT, nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("skipped", sa.Integer(), nullable=False),
        sa.Column("before", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("calling", sa.String(), nullable=True),
        sa.Column("called_at", MOMENT, nullable=True),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint(
            "kind IN ('batch', 'addition', 'run')", name=op.f("ck_submissions_kind_known")
        ),
        sa.CheckConstraint(
            "calling IN ('task', 'batch', 'runs')", name=op.f("ck_submissions_calling_known")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_submissions"),
    )
    op.create_index("ix_submissions_source_batch_id", "submissions", ["source", "batch_id"])
    op.create_table(
        "submission_tasks",
        sa.Column("submission_id", sa.String(), nullable=False),
        sa.Column("position", KEY, nullable=False),
        sa.Column("task_id", sa.String(), nullable=True),
        sa.Column("body", ORDERED_DOCUMENT, nullable=False),
        sa.Column("input", ORDERED_DOCUMENT, nullable=False),
        sa.Column("endpoint_id", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["submission_id"],
            ["submissions.id"],
            name="fk_submission_tasks_submission_id",
        ),
        sa.PrimaryKeyConstraint("submission_id", "position", name="pk_submission_tasks"),
    )


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("id", KEY, nullable=False),
        sa.Column("token_id", KEY, nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("resource", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.String(), nullable=True),
        sa.Column("began_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_idempotency_keys_token_id"),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_keys"),
        sa.UniqueConstraint("token_id", "key", name="uq_idempotency_keys_token_id_key"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
