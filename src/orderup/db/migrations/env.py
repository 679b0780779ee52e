"""What Alembic runs: the revisions of `version_locations`, on a connection and in a transaction that it is handed."""

from alembic import context

attributes = context.config.attributes
context.configure(
    connection=attributes["connection"],
    version_table=attributes["version_table"],
    target_metadata=attributes["metadata"],
)
context.run_migrations()
