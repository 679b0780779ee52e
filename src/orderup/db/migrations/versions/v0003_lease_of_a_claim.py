"""A claim may have a lease of another length than its task says. For before the new code; the old one works with it."""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("tasks", Column("claim_lease_us", BigInteger()))
