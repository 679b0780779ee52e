"""A command at a terminal of its own, as a person meets it."""

import os
import pty
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services.waiting import wait_until
from tests.serving import ORDERUP, plain_environment, sqlite_url


class Terminal:
    """A command at a terminal of its own, and what it has shown so far."""

    def __init__(self, pid: int, master: int) -> None:
        self.pid, self.master, self.shown = pid, master, ""

    def until(self, words: str) -> str:
        """Everything shown, once it holds these words."""

        def has_shown() -> bool:
            self._read()
            return words in self.shown

        wait_until(has_shown, what=f"it shows {words!r}")
        return self.shown

    def _read(self) -> None:
        while select.select([self.master], [], [], 0)[0]:
            try:
                self.shown += os.read(self.master, 65_536).decode(errors="replace").replace("\r\n", "\n")
            except OSError:  # it has ended
                return

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def press_ctrl_c(self) -> None:
        self.type("\x03")

    def exit_code(self) -> int:
        """Of its end, which it must come to by itself."""
        ended: list[int] = []

        def has_ended() -> bool:
            self._read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                ended.append(os.waitstatus_to_exitcode(status))
            return bool(pid)

        wait_until(has_ended, what="it ends")
        self.pid = 0
        self._read()
        return ended[0]


@contextmanager
def at_terminal(folder: Path, *arguments: object, **settings: str) -> Iterator[Terminal]:
    """`orderup` with these arguments, its database in `folder` unless the settings say otherwise."""
    environment = {**plain_environment(), "TERM": "dumb", "DATABASE_URL": sqlite_url(folder), **settings}
    pid, master = pty.fork()
    if pid == 0:  # pragma: no cover  the other process
        os.execve(ORDERUP, [str(ORDERUP), *map(str, arguments)], environment)  # noqa: S606  our own command
    terminal = Terminal(pid, master)
    try:
        yield terminal
    finally:
        if terminal.pid:
            os.kill(terminal.pid, signal.SIGKILL)
            os.waitpid(terminal.pid, 0)
        os.close(master)
