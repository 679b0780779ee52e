"""A customer's own operations are found without a look at others'. For before or after the new code: each works, the
new one slower."""

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index(
        "operations_of_owner",
        "operations",
        ["owner", "shop", "status", "id"],
        sqlite_where=text("owner is not null"),
        postgresql_where=text("owner is not null"),
    )
