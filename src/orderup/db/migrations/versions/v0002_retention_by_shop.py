"""What retention takes next is found by shop. For before or after the new code: each works, the old one slower."""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.drop_index("operations_finished", "operations")
    op.create_index(
        "operations_finished",
        "operations",
        ["shop", "finished_at"],
        sqlite_where=text("finished_at is not null"),
        postgresql_where=text("finished_at is not null"),
    )
