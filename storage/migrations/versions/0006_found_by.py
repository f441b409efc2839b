"""By which way each result came, and who made a job due before its time."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WAYS = "('webhook', 'check', 'wait', 'reconcile', 'hand')"


def upgrade() -> None:
    _add("results", "found_by")
    _add("jobs", "hurried_by")


def _add(table: str, column: str) -> None:
    """Add a column with its CHECK in one statement: SQLite adds none to a table that exists."""
    op.execute(
        f"ALTER TABLE {table} ADD COLUMN {column} VARCHAR"
        f" CONSTRAINT ck_{table}_{column}_known CHECK ({column} IN {WAYS})"
    )
