"""An index of the batches that are announced at an endpoint, read whenever a job of it ends."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_batches_endpoint_id", "batches", ["endpoint_id"])
