"""The tables. Points in time are microseconds since the epoch; JSON is text, compared by nobody.

Every index carries its reason: an index costs each write that touches it. Statuses are constrained by CHECKs, so that
what must never be false is refused by the database itself.
"""

from collections.abc import Iterable

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, SmallInteger, String, Table, Text
from sqlalchemy.sql.expression import text

from orderup.model.delivery import DeliveryState
from orderup.model.operation import OperationStatus
from orderup.model.rfa import RfaStatus
from orderup.model.task import TaskStatus

metadata = MetaData()

# A key of one number. On SQLite it is the place of the row itself if its type is INTEGER, else an index beside it.
_BIG_KEY = BigInteger().with_variant(Integer, "sqlite")


def _is_one_of(statuses: Iterable[str]) -> str:
    """Not `in (…)`: for that SQLite builds a little table at every row it checks, a quarter of the time of a write."""
    return " or ".join(f"status = '{status}'" for status in statuses)


def _is_known(statuses: Iterable[str]) -> CheckConstraint:
    return CheckConstraint(_is_one_of(statuses), name="status_is_known")


def _finished_when_final() -> CheckConstraint:
    final = _is_one_of(("completed", "errored", "cancelled"))
    return CheckConstraint(f"(finished_at is not null) = ({final})", name="finished_when_final")


operations = Table(
    "operations",
    metadata,
    Column("id", _BIG_KEY, primary_key=True, autoincrement=False),
    Column("shop", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False),  # the n of its last event
    Column("open", Integer, nullable=False),
    Column("moving", Integer, nullable=False),
    Column("placed_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("reason", Text),
    Column("source", Text, nullable=False),
    Column("owner", Text),
    Column("key_hash", Text),
    Column("key_salt", Text),
    Column("words", Text),
    Column("client", Text),  # null: of a shop whose clients do not take turns
    Column("held_by", Text),  # a process, of `workers`: no change writes it, whoever takes an order over does
    _is_known(OperationStatus),
    _finished_when_final(),
    # lists, newest first, by shop and status
    Index("operations_list", "shop", "status", "id"),
    # the same of a single customer
    Index(
        "operations_of_owner",
        "owner",
        "shop",
        "status",
        "id",
        sqlite_where=text("owner is not null"),
        postgresql_where=text("owner is not null"),
    ),
    # what retention takes next, shop by shop: a process prunes those of the shops it has
    Index(
        "operations_finished",
        "shop",
        "finished_at",
        sqlite_where=text("finished_at is not null"),
        postgresql_where=text("finished_at is not null"),
    ),
)

tasks = Table(
    "tasks",
    metadata,
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("after", Text, nullable=False),  # positions, joined by commas
    Column("next", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("params", Text, nullable=False),
    Column("says", Text),
    Column("retry", Text, nullable=False),  # attempts, first, longest, in microseconds
    Column("within_us", BigInteger, nullable=False),
    Column("lease_us", BigInteger, nullable=False),
    Column("blocked_by", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("token", Text),
    Column("worker", Text),
    Column("lease_until", BigInteger),  # null: held under the lease of its worker
    Column("ready_at", BigInteger),
    Column("deadline_at", BigInteger),
    Column("due_at", BigInteger),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),
    Column("result", Text),
    Column("error", Text),
    Column("memo", Text),
    Column("answered", Text),
    Column("request", Text),
    # of the last claim; null: lease_us. Only claims write it, and only what judges or extends leases reads it
    Column("claim_lease_us", BigInteger),
    _is_known(TaskStatus),
    CheckConstraint("(token is not null) = (status = 'running')", name="token_when_running"),
    _finished_when_final(),
    # claims: the first of a queue
    Index(
        "tasks_claim",
        "queue",
        "priority",
        "ready_at",
        "operation_id",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
    # leases of single tasks, watched by the rescuer; also what a remote worker holds
    Index(
        "tasks_lease",
        "worker",
        "lease_until",
        sqlite_where=text("lease_until is not null"),
        postgresql_where=text("lease_until is not null"),
    ),
    # waits that end and deadlines that pass
    Index(
        "tasks_due",
        "due_at",
        sqlite_where=text("due_at is not null"),
        postgresql_where=text("due_at is not null"),
    ),
    sqlite_with_rowid=False,  # an operation's tasks lie together
)

rfas = Table(
    "rfas",
    metadata,
    Column("operation_id", _BIG_KEY, primary_key=True, autoincrement=False),
    Column("shop", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("asked_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("decided_at", BigInteger),
    Column("decided_by", Text),
    Column("notes", Text),
    _is_known(RfaStatus),
    CheckConstraint("(decided_at is not null) = (status <> 'pending')", name="decided_when_not_pending"),
    # the inbox, oldest deadline first, and what expires next
    Index("rfas_list", "status", "shop", "expires_at", "operation_id"),
    Index(
        "rfas_expiry",
        "expires_at",
        "operation_id",
        sqlite_where=text("status = 'pending'"),
        postgresql_where=text("status = 'pending'"),
    ),
)

events = Table(
    "events",
    metadata,
    Column("seq", _BIG_KEY, primary_key=True),
    Column("operation_id", BigInteger, nullable=False),
    Column("n", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("shop", Text, nullable=False),
    Column("task", Integer),
    Column("task_name", Text),
    Column("status", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("audience", SmallInteger, nullable=False),
    # an operation's history; and two processes can never write the same n
    Index("events_of_operation", "operation_id", "n", unique=True),
    sqlite_autoincrement=True,  # a seq that was pruned is never given again
)

# Idempotency keys, due times of schedules, ids of deliveries: whatever has started an operation or changed one.
keys = Table(
    "keys",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("operation_id", BigInteger, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Index("keys_made", "made_at"),
    sqlite_with_rowid=False,  # else its key is an index beside it
)

# Only queues that are limited or were paused have a row.
queues = Table(
    "queues",
    metadata,
    Column("name", Text, primary_key=True),
    Column("is_paused", Integer, nullable=False, server_default=text("0")),
    Column("paused_until", BigInteger),
    Column("paused_by", Text),
)

# What a limited queue has let through: spent in the transaction of the claim. `held`: still counts as running.
permits = Table(
    "permits",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("taken_at", BigInteger, primary_key=True, autoincrement=False),
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("held", Integer, nullable=False),
    Index(
        "permits_held",
        "queue",
        sqlite_where=text("held = 1"),
        postgresql_where=text("held = 1"),
    ),
    Index("permits_of_task", "operation_id", "position"),
    sqlite_with_rowid=False,
)

# Whoever claims tasks. `beat` counts its heartbeats: a lease is judged by whether it moves, never by `seen_at`.
workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),  # local, celery, remote
    Column("shop", Text),
    Column("region", Text),
    Column("process", Text),  # host, process id and its start time, where they can be known
    Column("lease_us", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("first_seen_at", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

schedules = Table(
    "schedules",
    metadata,
    Column("name", Text, primary_key=True),  # shop/name
    Column("spec", Text, nullable=False),
    Column("next_due_at", BigInteger, nullable=False),
    Column("last_due_at", BigInteger),
    Column("last_operation_id", BigInteger),
    Column("skipped", Integer, nullable=False, server_default=text("0")),  # due while the last run was alive
    Column("missed", Integer, nullable=False, server_default=text("0")),  # due while no clock was running
    Column("is_paused", Integer, nullable=False, server_default=text("0")),
)

# Where events are sent. Only its holder changes its deliveries; the lease is judged by whether `beat` moves.
targets = Table(
    "targets",
    metadata,
    Column("name", Text, primary_key=True),
    Column("place", Text, nullable=False),  # for people, without any secret
    Column("position", BigInteger, nullable=False),  # every event up to this seq has its delivery
    Column("holder", Text),  # null: let go
    Column("process", Text),
    Column("beat", BigInteger, nullable=False),
    Column("delivered_at", BigInteger),  # the last one that arrived
    Column("failed_at", BigInteger),  # the last try that did not
    Column("error", Text),
)

# Each event for each target. `next_try_at` is null while an earlier event of the same operation is pending.
deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("target", Text, primary_key=True),
    Column("operation_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_try_at", BigInteger),
    Column("at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("error", Text),
    CheckConstraint(" or ".join(f"state = '{state}'" for state in DeliveryState), name="delivery_state_is_known"),
    CheckConstraint("(ended_at is null) = (state = 'pending')", name="ended_unless_pending"),
    CheckConstraint("next_try_at is null or state = 'pending'", name="tried_while_pending"),
    # an operation's deliveries in order: which is first, and what retention takes
    Index("deliveries_of_operation", "operation_id", "seq"),
    # what is due
    Index(
        "deliveries_due",
        "target",
        "next_try_at",
        "seq",
        sqlite_where=text("next_try_at is not null"),
        postgresql_where=text("next_try_at is not null"),
    ),
    # what waits and what failed, counted and listed
    Index(
        "deliveries_open",
        "target",
        "state",
        "seq",
        sqlite_where=text("state <> 'delivered'"),
        postgresql_where=text("state <> 'delivered'"),
    ),
    sqlite_with_rowid=False,
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("jti", Text, primary_key=True),
    Column("revoked_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

# Single facts: `pruned_seq`, the highest seq that retention has taken.
facts = Table("facts", metadata, Column("name", Text, primary_key=True), Column("value", BigInteger, nullable=False))
