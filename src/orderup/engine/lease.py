"""Leases: how claims are kept alive.

A remote worker's claim has a lease of its own, extended by heartbeats. All claims of one executor hang on one lease,
its row in `workers`, whose `beat` rises as long as its event loop turns. Wall time is only shown: a lease is ended by
a rescuer that saw it unmoved for its whole length (rescue.py).
"""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import msgspec
from sqlalchemy import Select, delete, func, select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.db.tables import operations, tasks, workers
from orderup.engine.engine import Engine
from orderup.errors import NotFound, StaleToken, Unavailable
from orderup.model.ids import show_task_id
from orderup.model.operation import OperationStatus
from orderup.model.times import as_micros

# For how long a remote worker's claim lives without a heartbeat.
lease_of_claim = func.coalesce(tasks.c.claim_lease_us, tasks.c.lease_us)
NOTE_EVERY_SECONDS = 1.0
MOST_NOTED = 10_000


class Beat(msgspec.Struct, frozen=True):
    """What a worker is told with a heartbeat: its claim lives, for how long, and how its operation stands."""

    worker: str
    lease_seconds: float
    operation_status: OperationStatus


async def heartbeat(engine: Engine, operation_id: int, position: int, *, token: str, shop: str | None = None) -> Beat:
    """Extend the lease of a claim. Raises StaleToken, NotFound."""

    def beat(connection: WriteConnection) -> Beat:
        here = (tasks.c.operation_id == operation_id) & (tasks.c.position == position)
        extended = connection.execute(
            update(tasks)
            .where(here, tasks.c.token == token, tasks.c.lease_until.is_not(None))
            .values(lease_until=engine.now() + lease_of_claim)
        )
        row = connection.execute(
            select(
                tasks.c.status,
                tasks.c.worker,
                lease_of_claim.label("lease_us"),
                operations.c.status.label("operation_status"),
                operations.c.shop,
            )
            .join(operations, operations.c.id == tasks.c.operation_id)
            .where(here)
        ).one_or_none()
        if row is None or shop not in (None, row.shop):
            raise NotFound("task", show_task_id(operation_id, position))
        if not extended.rowcount:
            raise StaleToken(show_task_id(operation_id, position), reason=f"this claim has ended ({row.status})")
        return Beat(row.worker, row.lease_us / 1e6, OperationStatus(row.operation_status))

    return await engine.database.write(beat)


async def beat_executor(engine: Engine, worker: str, *, kind: str, lease: timedelta) -> None:
    """Keep the one lease of an executor alive; the first beat registers it."""
    await note_workers(engine, {worker: Seen(kind, None, None, process_identity())}, lease=lease)


class Seen(msgspec.Struct, frozen=True):
    """A worker that asked for work or beat. `shop`, `region`: None if it did not say, or has none. `process`: where it
    runs, if that can be known."""

    kind: str
    shop: str | None
    region: str | None
    process: str | None = None


async def note_workers(engine: Engine, seen: dict[str, Seen], *, lease: timedelta = timedelta(seconds=30)) -> None:
    """These workers are alive now."""
    now = engine.now()

    def write(connection: WriteConnection) -> None:
        for worker, each in sorted(seen.items()):
            told = {name: value for name, value in (("shop", each.shop), ("region", each.region)) if value is not None}
            beaten = connection.execute(
                update(workers).where(workers.c.id == worker).values(beat=workers.c.beat + 1, seen_at=now, **told)
            )
            if not beaten.rowcount:
                row = {**msgspec.structs.asdict(each), "id": worker, "lease_us": as_micros(lease)}
                connection.insert_or_ignore(workers, {**row, "beat": 1, "first_seen_at": now, "seen_at": now})

    await engine.database.write(write)


class WorkerBook:
    """Notes which workers were heard of, and writes it down now and then: a claim costs no write for it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._heard: dict[str, Seen] = {}

    def note(self, worker: str, seen: Seen) -> None:
        if len(self._heard) < MOST_NOTED:
            self._heard[worker] = seen

    def note_beat(self, worker: str) -> None:
        """Of a heartbeat, which does not say whose shop and region it is."""
        self.note(worker, self._heard.get(worker, Seen("remote", None, None)))

    async def run(self) -> None:
        """Until cancelled. What cannot be written now is written later."""
        while True:
            await asyncio.sleep(NOTE_EVERY_SECONDS)
            heard, self._heard = self._heard, {}
            if heard:
                try:
                    await note_workers(self.engine, heard)
                except Unavailable:
                    self._heard = heard | self._heard


async def sign_off(engine: Engine, worker: str) -> None:
    """An executor that has ended well leaves no lease to wait for; one that still holds something keeps it, unmoved, so
    that a rescuer finds what it holds."""
    await engine.database.write(lambda connection: forget_executor(connection, worker))


def forget_executor(connection: WriteConnection, worker: str, *, beat: int | None = None) -> None:
    """Delete the lease of an executor unless it holds tasks, or has beaten since `beat`."""
    if not held_by(connection, worker):
        here = workers.c.id == worker
        connection.execute(delete(workers).where(here if beat is None else here & (workers.c.beat == beat)))


def process_identity() -> str | None:
    """Names this process among all there ever were on this host: the host's boot, the space its process ids are counted
    in, the id, and when it started. None where the system does not tell."""
    return _identity(os.getpid())


def is_known_dead(identity: str | None) -> bool:
    """Whether a process of this very host has certainly ended. False if it lives, runs elsewhere, or is not known."""
    here = process_identity()
    if identity is None or here is None:
        return False
    host, pid = identity.rsplit(":", 2)[0], identity.rsplit(":", 2)[1]
    return here.rsplit(":", 2)[0] == host and _identity(int(pid)) != identity


def _identity(pid: int) -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").readlink()
        # the command's name may hold spaces and brackets; what follows its last bracket does not
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return f"gone:{pid}:0" if Path("/proc/self/stat").exists() else None
    except (OSError, ValueError):
        return None
    state, started = fields[0], fields[19]
    return f"gone:{pid}:0" if state in "ZX" else f"{boot}/{space}:{pid}:{started}"


def held_by(connection: ReadConnection, worker: str) -> list[tuple[int, int, str]]:
    """Operation, position and token of every task an executor holds under its own lease.

    Only operations that are under way are looked at: their number does not grow with history.
    """
    rows = connection.rows(_held_under_executors().where(tasks.c.worker == worker))
    return [(row[0], row[1], row[2]) for row in rows]


def held_by_nobody(connection: ReadConnection) -> list[tuple[int, int, str]]:
    """As `held_by`, of every executor that has no lease."""
    rows = connection.rows(_held_under_executors().where(tasks.c.worker.not_in(select(workers.c.id))))
    return [(row[0], row[1], row[2]) for row in rows]


def _held_under_executors() -> Select[tuple[int, int, str]]:
    return (
        select(tasks.c.operation_id, tasks.c.position, tasks.c.token)
        .join(operations, operations.c.id == tasks.c.operation_id)
        .where(
            operations.c.status.in_([OperationStatus.RUNNING, OperationStatus.PAUSED]),
            tasks.c.status == "running",
            tasks.c.lease_until.is_(None),
        )
    )
