"""The tables of the campaign desk."""

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, text

metadata = MetaData()

# What this shop's customers call tasks, in their own words; no tasks of the engine. id: theirs, or the next one.
client_tasks = Table(
    "campaigns_tasks",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("status", Text, nullable=False),
    Column("validation_error", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("campaigns_tasks_status", "status", "id"),
)

# A file of campaigns on its way in. digest: SHA-256 of its bytes. is_strict: all of it or nothing. state: reading,
# ready, placing, done, discarded. size, read: bytes, and those of them that were read so far. here: of its campaigns,
# those that were here before. errors: all that were found. touched_at: when it last got on. operation_id: what places
# its campaigns, unless a command does. placed: how many of them it has placed, once it has ended and they were counted.
imports = Table(
    "campaigns_imports",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("is_strict", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("read", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("campaigns", BigInteger, nullable=False),
    Column("ad_groups", BigInteger, nullable=False),
    Column("ads", BigInteger, nullable=False),
    Column("here", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("by", Text),
    Column("began_at", BigInteger, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    Column("operation_id", BigInteger),
    Column("placed", BigInteger),
    Index("campaigns_imports_digest", "digest"),
    Index("campaigns_imports_operation", "operation_id"),
)
# What was read of a campaign in one slice of the file, as JSON (reading.Part), until the campaign is placed.
import_parts = Table(
    "campaigns_import_parts",
    metadata,
    Column("import_id", BigInteger, primary_key=True, autoincrement=False),
    Column("campaign_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("line", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("body", Text, nullable=False),
)
# line: its first. outcome: placed; here (there was one of this id before); null: not yet.
import_campaigns = Table(
    "campaigns_import_campaigns",
    metadata,
    Column("import_id", BigInteger, primary_key=True, autoincrement=False),
    Column("campaign_id", Text, primary_key=True),
    Column("line", BigInteger, nullable=False),
    Column("ads", Integer, nullable=False),
    Column("outcome", Text),
    Index(
        "campaigns_import_campaigns_to_place",
        "import_id",
        "line",
        sqlite_where=text("outcome is null"),
        postgresql_where=text("outcome is null"),
    ),
)
# The first of them. column_name: null if it is the whole row.
import_errors = Table(
    "campaigns_import_errors",
    metadata,
    Column("import_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("line", BigInteger, nullable=False),
    Column("column_name", Text),
    Column("message", Text, nullable=False),
)
# One row a campaign. id: its owner's, which no other campaign has. submissions: how many things the platform is given.
campaigns = Table(
    "campaigns_campaigns",
    metadata,
    Column("operation_id", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("groups", Integer, nullable=False),
    Column("ads", Integer, nullable=False),
)
