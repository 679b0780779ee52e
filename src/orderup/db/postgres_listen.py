"""Hearing that other processes have committed: LISTEN on a connection of its own, and a slow poll as a safety net.

A notification carries the name of its sender, which passes over its own. Notifying costs a lock at commit that the
whole server shares, so it is left out as long as nobody else listens. Whoever starts to listen tells the others.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from orderup.db.postgres_batch import CHANNEL
from orderup.db.postgres_link import DRIVER_ERRORS, PLANNED_ONCE, Link, Session, is_lost

# Also how long a process that was told nothing by mistake stays asleep.
POLL_SECONDS = 2.0
# At most one call in that time, however many notifications come.
PAUSE_SECONDS = 0.005
NAME = "orderup listener"

_OTHERS = f"""
select count(*) from pg_stat_activity
where application_name = '{NAME}' and datname = current_database() and pid <> pg_backend_pid()"""


class PostgresListener:
    def __init__(self, url: str, *, poll_seconds: float = POLL_SECONDS) -> None:
        self.name = uuid4().hex[:8]
        self._url, self._poll_seconds = url, poll_seconds
        # until it is known that nobody listens, somebody might
        self._others_listen = True
        self._heard = asyncio.Event()

    def tag(self) -> str | None:
        """What to notify with a commit, None if nobody else listens."""
        return self.name if self._others_listen else None

    async def run(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever another process may have committed, until cancelled."""
        link = Link(self._url, {**PLANNED_ONCE, "application_name": NAME})
        try:
            while True:
                session = await link.connect_some_day()
                try:
                    await self._listen(session, changed)
                except DRIVER_ERRORS as error:
                    if not is_lost(error):
                        await asyncio.sleep(POLL_SECONDS)
                    self._others_listen = True
                    link.drop()
        finally:
            await link.close()

    async def _listen(self, session: Session, changed: Callable[[], None]) -> None:
        """Until the connection is lost. Raises the driver's error."""
        heard = self._heard
        session.connection.add_termination_listener(lambda _: heard.set())
        await session.connection.add_listener(CHANNEL, self._on_notification)
        await session.connection.execute(f"select pg_notify('{CHANNEL}', '{self.name}')")
        while True:
            [(others,)] = await session.fetch(_OTHERS)
            self._others_listen = others > 0
            changed()
            await self._wait(session, changed)

    async def _wait(self, session: Session, changed: Callable[[], None]) -> None:
        """Pass on what is heard, until it is time to poll."""
        loop = asyncio.get_running_loop()
        poll_at = loop.time() + self._poll_seconds
        try:
            async with asyncio.timeout_at(poll_at):
                while session.is_open:
                    await self._heard.wait()
                    self._heard.clear()
                    changed()
                    await asyncio.sleep(PAUSE_SECONDS)
        except TimeoutError:
            return

    def _on_notification(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if payload != self.name:
            self._others_listen = True
            self._heard.set()
