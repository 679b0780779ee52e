"""The core tables as the first release had them."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Text,
    text,
)

revision = "0001"
down_revision = None

FINAL = ("completed", "errored", "cancelled")


def _is_one_of(*statuses: str) -> str:
    return " or ".join(f"status = '{status}'" for status in statuses)


def upgrade() -> None:
    op.create_table(
        "events",
        Column("seq", BigInteger().with_variant(Integer(), "sqlite"), nullable=False),
        Column("operation_id", BigInteger(), nullable=False),
        Column("n", Integer(), nullable=False),
        Column("at", BigInteger(), nullable=False),
        Column("type", Text(), nullable=False),
        Column("shop", Text(), nullable=False),
        Column("task", Integer()),
        Column("task_name", Text()),
        Column("status", Text(), nullable=False),
        Column("message", Text(), nullable=False),
        Column("audience", SmallInteger(), nullable=False),
        PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_of_operation", "events", ["operation_id", "n"], unique=True)

    op.create_table(
        "facts",
        Column("name", Text(), nullable=False),
        Column("value", BigInteger(), nullable=False),
        PrimaryKeyConstraint("name"),
    )

    op.create_table(
        "keys",
        Column("key", String(200), nullable=False),
        Column("operation_id", BigInteger(), nullable=False),
        Column("fingerprint", Text(), nullable=False),
        Column("made_at", BigInteger(), nullable=False),
        PrimaryKeyConstraint("key"),
        sqlite_with_rowid=False,
    )
    op.create_index("keys_made", "keys", ["made_at"])

    op.create_table(
        "operations",
        Column("id", BigInteger().with_variant(Integer(), "sqlite"), autoincrement=False, nullable=False),
        Column("shop", Text(), nullable=False),
        Column("status", Text(), nullable=False),
        Column("version", Integer(), nullable=False),
        Column("open", Integer(), nullable=False),
        Column("moving", Integer(), nullable=False),
        Column("placed_at", BigInteger(), nullable=False),
        Column("started_at", BigInteger()),
        Column("finished_at", BigInteger()),
        Column("reason", Text()),
        Column("source", Text(), nullable=False),
        Column("owner", Text()),
        Column("key_hash", Text()),
        Column("key_salt", Text()),
        Column("words", Text()),
        CheckConstraint(f"(finished_at is not null) = ({_is_one_of(*FINAL)})", name="finished_when_final"),
        CheckConstraint(
            _is_one_of("pending", "running", "paused", "completed", "errored", "cancelled"), name="status_is_known"
        ),
        PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "operations_finished",
        "operations",
        ["finished_at"],
        sqlite_where=text("finished_at is not null"),
        postgresql_where=text("finished_at is not null"),
    )
    op.create_index("operations_list", "operations", ["shop", "status", "id"])

    op.create_table(
        "permits",
        Column("queue", Text(), nullable=False),
        Column("taken_at", BigInteger(), autoincrement=False, nullable=False),
        Column("operation_id", BigInteger(), autoincrement=False, nullable=False),
        Column("position", Integer(), autoincrement=False, nullable=False),
        Column("held", Integer(), nullable=False),
        PrimaryKeyConstraint("queue", "taken_at", "operation_id", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "permits_held", "permits", ["queue"], sqlite_where=text("held = 1"), postgresql_where=text("held = 1")
    )
    op.create_index("permits_of_task", "permits", ["operation_id", "position"])

    op.create_table(
        "queues",
        Column("name", Text(), nullable=False),
        Column("is_paused", Integer(), server_default=text("0"), nullable=False),
        Column("paused_until", BigInteger()),
        Column("paused_by", Text()),
        PrimaryKeyConstraint("name"),
    )

    op.create_table(
        "revoked_tokens",
        Column("jti", Text(), nullable=False),
        Column("revoked_at", BigInteger(), nullable=False),
        Column("expires_at", BigInteger(), nullable=False),
        PrimaryKeyConstraint("jti"),
    )

    op.create_table(
        "rfas",
        Column("operation_id", BigInteger().with_variant(Integer(), "sqlite"), autoincrement=False, nullable=False),
        Column("shop", Text(), nullable=False),
        Column("status", Text(), nullable=False),
        Column("question", Text(), nullable=False),
        Column("asked_at", BigInteger(), nullable=False),
        Column("expires_at", BigInteger(), nullable=False),
        Column("decided_at", BigInteger()),
        Column("decided_by", Text()),
        Column("notes", Text()),
        CheckConstraint("(decided_at is not null) = (status <> 'pending')", name="decided_when_not_pending"),
        CheckConstraint(_is_one_of("pending", "approved", "declined", "expired", "cancelled"), name="status_is_known"),
        PrimaryKeyConstraint("operation_id"),
    )
    op.create_index(
        "rfas_expiry",
        "rfas",
        ["expires_at", "operation_id"],
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    )
    op.create_index("rfas_list", "rfas", ["status", "shop", "expires_at", "operation_id"])

    op.create_table(
        "schedules",
        Column("name", Text(), nullable=False),
        Column("spec", Text(), nullable=False),
        Column("next_due_at", BigInteger(), nullable=False),
        Column("last_due_at", BigInteger()),
        Column("last_operation_id", BigInteger()),
        Column("skipped", Integer(), server_default=text("0"), nullable=False),
        Column("missed", Integer(), server_default=text("0"), nullable=False),
        Column("is_paused", Integer(), server_default=text("0"), nullable=False),
        PrimaryKeyConstraint("name"),
    )

    op.create_table(
        "tasks",
        Column("operation_id", BigInteger(), autoincrement=False, nullable=False),
        Column("position", Integer(), autoincrement=False, nullable=False),
        Column("name", Text(), nullable=False),
        Column("kind", Text(), nullable=False),
        Column("queue", Text(), nullable=False),
        Column("status", Text(), nullable=False),
        Column("after", Text(), nullable=False),
        Column("next", Text(), nullable=False),
        Column("priority", Integer(), nullable=False),
        Column("params", Text(), nullable=False),
        Column("says", Text()),
        Column("retry", Text(), nullable=False),
        Column("within_us", BigInteger(), nullable=False),
        Column("lease_us", BigInteger(), nullable=False),
        Column("blocked_by", Integer(), nullable=False),
        Column("attempt", Integer(), nullable=False),
        Column("failures", Integer(), nullable=False),
        Column("losses", Integer(), nullable=False),
        Column("token", Text()),
        Column("worker", Text()),
        Column("lease_until", BigInteger()),
        Column("ready_at", BigInteger()),
        Column("deadline_at", BigInteger()),
        Column("due_at", BigInteger()),
        Column("started_at", BigInteger()),
        Column("finished_at", BigInteger()),
        Column("result", Text()),
        Column("error", Text()),
        Column("memo", Text()),
        Column("answered", Text()),
        Column("request", Text()),
        CheckConstraint(f"(finished_at is not null) = ({_is_one_of(*FINAL)})", name="finished_when_final"),
        CheckConstraint("(token is not null) = (status = 'running')", name="token_when_running"),
        CheckConstraint(
            _is_one_of("blocked", "pending", "running", "waiting", "paused", "completed", "errored", "cancelled"),
            name="status_is_known",
        ),
        PrimaryKeyConstraint("operation_id", "position"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "tasks_claim",
        "tasks",
        ["queue", "priority", "ready_at", "operation_id"],
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    )
    op.create_index(
        "tasks_due",
        "tasks",
        ["due_at"],
        sqlite_where=text("due_at is not null"),
        postgresql_where=text("due_at is not null"),
    )
    op.create_index(
        "tasks_lease",
        "tasks",
        ["worker", "lease_until"],
        sqlite_where=text("lease_until is not null"),
        postgresql_where=text("lease_until is not null"),
    )

    op.create_table(
        "workers",
        Column("id", Text(), nullable=False),
        Column("kind", Text(), nullable=False),
        Column("shop", Text()),
        Column("region", Text()),
        Column("process", Text()),
        Column("lease_us", BigInteger(), nullable=False),
        Column("beat", BigInteger(), nullable=False),
        Column("first_seen_at", BigInteger(), nullable=False),
        Column("seen_at", BigInteger(), nullable=False),
        PrimaryKeyConstraint("id"),
    )
