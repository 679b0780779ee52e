"""Whose an operation is, and which process holds its customer's connection. For before the new code; the old one works
with it."""

from alembic import op
from sqlalchemy import Column, Text

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("operations", Column("client", Text()))
    op.add_column("operations", Column("held_by", Text()))
