"""The bakery's tables. Customers' names and addresses are here only; never in plans or events."""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, text

metadata = MetaData()

# A recipe never changes: a cake that is deleted keeps its row for the orders that were made of it.
cakes = Table(
    "bakery_cakes",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("added_at", BigInteger, nullable=False),
    Column("deleted_at", BigInteger),
    Index(
        "bakery_cakes_id",
        "id",
        unique=True,
        sqlite_where=text("deleted_at is null"),
        postgresql_where=text("deleted_at is null"),
    ),
)
# amount: exact, as it was written; unit: g or pcs.
ingredients = Table(
    "bakery_ingredients",
    metadata,
    Column("cake", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("amount", Text, nullable=False),
    Column("unit", Text, nullable=False),
)
orders = Table(
    "bakery_orders",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("operation_id", BigInteger, nullable=False, unique=True),
    Column("cake", Integer, nullable=False),
    # null once they were forgotten
    Column("customer", Text),
    Column("slug", Text),
    Column("email", Text),
    Column("persons", Integer, nullable=False),
    Column("quantity", Integer, nullable=False),
    # the operation that makes the issue which its ingredients are ordered by
    Column("issue", BigInteger),
    # where he was told that it is ready: slack CHANNEL TS, or mail MESSAGE-ID
    Column("told", Text),
    # the operation that records its cancellation, and then the file in which that is done
    Column("recorder", BigInteger),
    Column("document", Text),
    Index("bakery_orders_cake", "cake"),
    Index("bakery_orders_issue", "issue"),
    Index("bakery_orders_slug", "slug"),
    # whose cancellation is being recorded
    Index(
        "bakery_orders_recorder",
        "recorder",
        sqlite_where=text("recorder is not null and document is null"),
        postgresql_where=text("recorder is not null and document is null"),
    ),
    sqlite_autoincrement=True,
)
extras = Table(
    "bakery_extras",
    metadata,
    Column("order_number", Integer, primary_key=True, autoincrement=False),
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("amount", Text, nullable=False),
    Column("unit", Text, nullable=False),
)
# An issue at Jira. key: null until it was made. day: of one that covers many orders.
issues = Table(
    "bakery_issues",
    metadata,
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Text, nullable=False),
    Column("key", Text, unique=True),
)
# One a customer, and the folder in which they lie, without a slug. file: null until it was made.
documents = Table(
    "bakery_documents",
    metadata,
    Column("slug", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("file", Text),
)
# operation: which brings GitHub in line with what he is now; an earlier one has nothing left to do. former: JSON,
# logins that he had before. github_id: of the account that the login meant when it was first used. fired_at: his row
# goes once GitHub knows.
employees = Table(
    "bakery_employees",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("operation", BigInteger, nullable=False),
    Column("first_name", Text, nullable=False),
    Column("last_name", Text, nullable=False),
    Column("permissions", Text, nullable=False),
    Column("github", Text),
    Column("github_id", BigInteger),
    Column("former", Text, nullable=False),
    Column("access", Text),
    Column("hired_at", BigInteger, nullable=False),
    Column("fired_at", BigInteger),
    Index("bakery_employees_operation", "operation"),
    sqlite_autoincrement=True,
)
