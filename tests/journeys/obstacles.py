"""What keeps SQLite from writing, for real: a full disk, a limit on the size of files, files nobody may change.

Not everybody may put them up. One that cannot be put up is listed as NOT RUN at the end of the test run, as missing
services are; where services are required its test fails if root could run it, and only then: root of a container
without the right can do nothing about it.
"""

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from tests.services import lookup
from tests.services.plugin import _LOOKUP, _NOT_RUN, _refuse  # the one way into the section on what was not run
from tests.serving import Program

DISK_MIB = 24
ROOM_TO_PRINT = 256 * 1024


class Obstacle(Protocol):
    """`folder`: where the database must lie."""

    folder: Path

    def put_up(self, server: Program) -> None: ...

    def take_away(self, server: Program) -> None: ...


class FullDisk:
    """A small file system of its own, filled to the last byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_up(self, server: Program) -> None:
        del server
        with (self.folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(4096))

    def take_away(self, server: Program) -> None:
        del server
        (self.folder / "filler").unlink()


class FileSizeLimit:
    """No file of the server's may grow beyond a little more than what it has printed, which goes into a file, too: the
    system says "file too large". Meanwhile somebody reads, so that the database's log of changes only grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_up(self, server: Program) -> None:
        self._reader = sqlite3.connect(self.folder / "orderup.db", timeout=10, isolation_level=None)
        self._reader.execute("pragma wal_checkpoint(truncate)").fetchall()
        self._reader.execute("begin")
        self._reader.execute("select count(*) from operations").fetchall()
        self._limit(server, server.log.stat().st_size + ROOM_TO_PRINT)

    def take_away(self, server: Program) -> None:
        self._limit(server, resource.RLIM_INFINITY)
        self._reader.close()

    def _limit(self, server: Program, size: int) -> None:
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, hard))


class ImmutableFiles:
    """Files that nobody may change, not even who has them open; root neither. Not the one that SQLite maps into its
    memory: whoever writes there is killed by the system (SIGBUS), and has nothing to answer any more."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_up(self, server: Program) -> None:
        del server
        self._change("+i")

    def take_away(self, server: Program) -> None:
        del server
        self._change("-i")

    def _change(self, flag: str) -> None:
        files = [self.folder / "orderup.db", self.folder / "orderup.db-wal"]
        subprocess.run(["chattr", flag, *(str(file) for file in files if file.exists())], check=True)


@contextlib.contextmanager
def full_disk() -> Iterator[Obstacle]:
    folder = Path(tempfile.mkdtemp(prefix="orderup-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "orderup-tests", folder], check=True)
    try:
        yield FullDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()


@contextlib.contextmanager
def file_size_limit() -> Iterator[Obstacle]:
    with tempfile.TemporaryDirectory(prefix="orderup-limit-") as folder:
        yield FileSizeLimit(Path(folder))


@contextlib.contextmanager
def immutable_files() -> Iterator[Obstacle]:
    with tempfile.TemporaryDirectory(prefix="orderup-immutable-") as folder:
        obstacle = ImmutableFiles(Path(folder))
        try:
            yield obstacle
        finally:
            obstacle._change("-i")  # noqa: SLF001  its own folder, which could not be removed otherwise


def can_limit() -> Path | None:
    return Path("/proc/self/limits") if sys.platform == "linux" else None


def can_mount() -> Path | None:
    """Root of a container may not."""
    if os.getuid() != 0:
        return None
    try:
        with full_disk() as obstacle:
            return obstacle.folder
    except (OSError, subprocess.CalledProcessError):
        return None


def can_make_immutable() -> Path | None:
    """Not every file system knows such files, nor heeds them for those who have them open."""
    with tempfile.TemporaryDirectory(prefix="orderup-immutable-") as folder:
        path = Path(folder) / "orderup.db"
        with path.open("wb", buffering=0) as file:
            try:
                subprocess.run(["chattr", "+i", str(path)], check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                return None
            try:
                file.write(b"changed")
            except OSError:
                return path
            else:
                return None
            finally:
                subprocess.run(["chattr", "-i", str(path)], check=True)


@dataclass(frozen=True, slots=True)
class Ability(lookup.Program):
    """What one may do here, or not. `find`: where it was tried. `could_root`: whether root may do what this user may
    not."""

    could_root: bool = sys.platform == "linux" and os.getuid() != 0

    def look(self, owner: int) -> str:
        del owner
        if found := self.find():
            return str(found)
        raise lookup.NotThere(
            "root may do this: run the tests as root" if self.could_root else "nobody may do this here"
        )


def _ability(title: str, find: Callable[[], Path | None]) -> Ability:
    return Ability(title=title, variable="", find=find, packages=())


lookup.SERVICES.update(
    {
        "file_size_limit": _ability("limits on the size of a process's files", can_limit),
        "full_disk": _ability("a file system of its own to fill", can_mount),
        "immutable_files": _ability("files that nobody may change", can_make_immutable),
    }
)
# By what they need.
OBSTACLES = {"file_size_limit": file_size_limit, "full_disk": full_disk, "immutable_files": immutable_files}


def check_possible(request: pytest.FixtureRequest, name: str) -> None:
    """Skip or fail the test that wants this obstacle, and have it said at the end, if it cannot be put up here."""
    ability, answer = lookup.SERVICES[name], request.config.stash[_LOOKUP].look_for(name)
    assert isinstance(ability, Ability)
    if isinstance(answer, lookup.Missing):
        request.node.user_properties.append((_NOT_RUN, name))
        if ability.could_root:
            _refuse(answer)
        pytest.skip(f"{answer.title} is missing: {answer.reason}")
