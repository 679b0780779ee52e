"""What goes out to which target. For before the new code; the old one works with it."""

from alembic import op
from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, Text, text

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "targets",
        Column("name", Text, primary_key=True),
        Column("place", Text, nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("holder", Text),
        Column("process", Text),
        Column("beat", BigInteger, nullable=False),
        Column("delivered_at", BigInteger),
        Column("failed_at", BigInteger),
        Column("error", Text),
    )
    op.create_table(
        "deliveries",
        Column("seq", BigInteger, primary_key=True, autoincrement=False),
        Column("target", Text, primary_key=True),
        Column("operation_id", BigInteger, nullable=False),
        Column("state", Text, nullable=False),
        Column("tries", Integer, nullable=False),
        Column("next_try_at", BigInteger),
        Column("at", BigInteger, nullable=False),
        Column("ended_at", BigInteger),
        Column("error", Text),
        CheckConstraint("state = 'pending' or state = 'delivered' or state = 'failed'", name="delivery_state_is_known"),
        CheckConstraint("(ended_at is null) = (state = 'pending')", name="ended_unless_pending"),
        CheckConstraint("next_try_at is null or state = 'pending'", name="tried_while_pending"),
        sqlite_with_rowid=False,
    )
    op.create_index("deliveries_of_operation", "deliveries", ["operation_id", "seq"])
    due, is_open = text("next_try_at is not null"), text("state <> 'delivered'")
    op.create_index(
        "deliveries_due", "deliveries", ["target", "next_try_at", "seq"], sqlite_where=due, postgresql_where=due
    )
    op.create_index(
        "deliveries_open", "deliveries", ["target", "state", "seq"], sqlite_where=is_open, postgresql_where=is_open
    )
