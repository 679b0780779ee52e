"""The history of the core tables, for Alembic; `orderup.db.migrate` runs it."""
