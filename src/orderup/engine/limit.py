"""Pausing queues, by hand or because a third party asked for a rest. Limits themselves are kept by the claim."""

from sqlalchemy import select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import queues
from orderup.engine.engine import Engine


def rest_until(connection: WriteConnection, queue: str, moment: int) -> None:
    """Nothing is claimed from the queue (all its regions) before `moment`, microseconds since the epoch."""
    _ensure(connection, queue)
    later = (queues.c.paused_until.is_(None)) | (queues.c.paused_until < moment)
    connection.execute(update(queues).where(queues.c.name == queue, later).values(paused_until=moment))


async def pause_queue(engine: Engine, queue: str, *, by: str) -> None:
    """Nothing is claimed from the queue until somebody resumes it. What is running goes on."""

    def write(connection: WriteConnection) -> None:
        _ensure(connection, queue)
        connection.execute(update(queues).where(queues.c.name == queue).values(is_paused=1, paused_by=by))

    await engine.database.write(write)
    await note_paused_queues(engine)


async def resume_queue(engine: Engine, queue: str) -> None:
    """Undo any pause of the queue."""

    def write(connection: WriteConnection) -> None:
        values = {"is_paused": 0, "paused_until": None, "paused_by": None}
        connection.execute(update(queues).where(queues.c.name == queue).values(**values))

    await engine.database.write(write)
    await note_paused_queues(engine)
    engine.bell.ring_all()


async def note_paused_queues(engine: Engine) -> None:
    """Look up which queues are paused, so that no change claims from them what it releases. Pauses that other processes
    make are heard of by the clock, which looks twice a second."""
    now = engine.now()
    engine.paused_queues = await engine.database.read(lambda connection: paused_queues(connection, now=now))


def _ensure(connection: WriteConnection, queue: str) -> None:
    """Two processes may pause the same queue for the first time at once: the row is made without complaint."""
    connection.insert_or_ignore(queues, {"name": queue, "is_paused": 0})


def paused_queues(connection: ReadConnection, *, now: int) -> frozenset[str]:
    """Names of the queues from which nothing is claimed now."""
    rows = connection.execute(
        select(queues.c.name).where((queues.c.is_paused == 1) | (queues.c.paused_until > now))
    ).scalars()
    return frozenset(rows)
