"""The executor's behaviour is one, whichever database it stands on."""

from tests.engine.conftest import database, doors, kitchen, migrated_postgres, time

__all__ = ["database", "doors", "kitchen", "migrated_postgres", "time"]
