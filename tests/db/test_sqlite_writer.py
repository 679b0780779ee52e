"""The thread that writes outlives whatever it meets: other processes in mid-recovery, functions that raise anything."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from orderup.db.database import WriteConnection
from orderup.db.read import pruned_seq
from orderup.db.sqlite import SqliteDatabase
from orderup.db.tables import metadata
from orderup.errors import Unavailable
from tests.services.waiting import PATIENCE_SECONDS

# As a process that was stopped while it mended the index of the log: it holds the locks for writing and for recovery,
# and the two copies of the header differ. See the file format of SQLite, "The WAL-Index File Format".
RECOVERING = """
import fcntl, sys
with open(sys.argv[1], "r+b", buffering=0) as index:
    fcntl.lockf(index, fcntl.LOCK_EX, 1, 120)
    fcntl.lockf(index, fcntl.LOCK_EX, 1, 122)
    index.seek(8)
    change = index.read(1)
    index.seek(8)
    index.write(bytes([change[0] ^ 1]))
    print("recovering", flush=True)
    sys.stdin.read()
    index.seek(8)
    index.write(change)
"""


class Watched(SqliteDatabase):
    """Tells of each look for other processes that was over."""

    looks = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.looked = threading.Condition()

    def _look_for_others(self, driver: sqlite3.Connection) -> None:
        super()._look_for_others(driver)
        with self.looked:
            self.looks += 1
            self.looked.notify_all()

    def wait_for_looks(self, most_seconds: float = PATIENCE_SECONDS) -> bool:
        with self.looked:
            enough = self.looks + 2
            return self.looked.wait_for(lambda: self.looks >= enough, timeout=most_seconds)


@asynccontextmanager
async def opened(database: SqliteDatabase) -> AsyncIterator[None]:
    await database.open()
    try:
        await database.write(lambda connection: metadata.create_all(connection.connection))
        yield
    finally:
        await database.close()


@contextmanager
def recovering(path: Path) -> Iterator[None]:
    command = [sys.executable, "-c", RECOVERING, f"{path}-shm"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "recovering\n"
        yield
        other.communicate("", timeout=PATIENCE_SECONDS)


async def test_a_file_that_another_process_mends_just_now_is_looked_at_later(tmp_path: Path) -> None:
    database = Watched(tmp_path / "orders.db")
    async with opened(database):
        with recovering(database.path or tmp_path):
            with sqlite3.connect(tmp_path / "orders.db", timeout=0) as other, pytest.raises(sqlite3.OperationalError):
                other.execute("pragma data_version")
            assert await asyncio.to_thread(database.wait_for_looks)
            waits = asyncio.ensure_future(database.write(pruned_seq))
        assert await waits == 0


async def test_a_file_that_another_process_mends_just_now_is_waited_for_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "orders.db"
    async with opened(SqliteDatabase(path)):
        other = SqliteDatabase(path)
        with recovering(path):
            opening = asyncio.ensure_future(other.open())
            done, _ = await asyncio.wait({opening}, timeout=0.5)
            assert not done
        await opening
        await other.close()


@pytest.mark.parametrize("path", [None, "orders.db"])
@pytest.mark.parametrize("what", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, StopIteration, GeneratorExit])
async def test_a_function_that_raises_what_is_no_error_is_told_as_one(
    tmp_path: Path, path: str | None, what: type[BaseException]
) -> None:
    def fail(_connection: WriteConnection) -> None:
        raise what

    database = SqliteDatabase(tmp_path / path if path else None)
    async with opened(database):
        beside, failed = await asyncio.gather(database.write(pruned_seq), database.write(fail), return_exceptions=True)
        assert beside == 0
        assert isinstance(failed, RuntimeError)
        assert what.__name__ in str(failed)
        assert await database.write(pruned_seq) == 0


async def test_a_file_that_stays_locked_is_said_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orderup.db.sqlite.LOCK_PATIENCE_SECONDS", 0.05)
    path = tmp_path / "orders.db"
    async with opened(SqliteDatabase(path)):
        pass
    with sqlite3.connect(path, isolation_level=None, check_same_thread=False) as other:
        other.execute("pragma journal_mode = delete")
        database = Locked(path, other)
        with pytest.raises(Unavailable, match="does not answer"):
            await database.open()
        assert await asyncio.to_thread(database.has_let_go.wait, PATIENCE_SECONDS)  # it says so a little earlier
    other.close()


class Locked(SqliteDatabase):
    """Another process takes the file between the migration and the writer's start."""

    def __init__(self, path: Path, other: sqlite3.Connection) -> None:
        super().__init__(path)
        self._other = other
        self.has_let_go = threading.Event()

    def _run_writer(self, started: asyncio.Future[None]) -> None:
        self._other.execute("begin exclusive")
        try:
            super()._run_writer(started)
        finally:
            self._other.execute("rollback")
            self.has_let_go.set()
