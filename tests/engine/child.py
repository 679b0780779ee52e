"""A process that can die."""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

SAY_WHO = """
from orderup.engine.lease import process_identity
print(process_identity(), flush=True)
input()
"""


class Child:
    """`identity`: as it tells it itself."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SAY_WHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.identity = self._process.stdout.readline().strip()
        return self

    def die(self) -> None:
        """It is killed, and has ended; nobody has waited for it."""
        self._process.kill()
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
