"""Revoking a token: its `jti` is remembered until the token would have expired anyway (prune.py)."""

from datetime import datetime

from orderup.db.database import Database, WriteConnection
from orderup.db.tables import revoked_tokens
from orderup.model.times import as_micros


async def revoke_token(database: Database, jti: str, *, expires_at: datetime, now: datetime) -> bool:
    """From now on nobody is let in with it; whether that is news."""
    row = {"jti": jti, "revoked_at": as_micros(now), "expires_at": as_micros(expires_at)}

    def write(connection: WriteConnection) -> bool:
        return connection.insert_or_ignore(revoked_tokens, row)

    return await database.write(write)
