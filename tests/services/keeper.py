"""Runs one server for as long as a test run lives: `python keeper.py --owner PID --folder DIR [...] -- COMMAND...`.

Started beside the tests, as a process of its own: even if the owner is killed without warning, no server stays behind.
The server is told to stop (after 10 s: killed) when the owner is gone or when the keeper gets SIGTERM. If the owner is
gone the folder, the server's data, goes too. Knows only the standard library, so that it starts quickly.
"""

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

_LOOK_EVERY_SECONDS = 0.1
_GRACE_SECONDS = 10


def main(arguments: argparse.Namespace) -> int:
    told_to_end = False

    def end(_signal: int, _frame: types.FrameType | None) -> None:
        nonlocal told_to_end
        told_to_end = True

    signal.signal(signal.SIGTERM, end)
    # Ctrl-C reaches every process of the terminal: the server ends when the tests have let go of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = subprocess.Popen(
        arguments.command,
        stdin=subprocess.DEVNULL,
        cwd=arguments.folder,
        start_new_session=True,
        user=arguments.user,
        group=arguments.user,
        extra_groups=None if arguments.user is None else [],
    )
    while server.poll() is None and is_alive(arguments.owner) and not told_to_end:
        time.sleep(_LOOK_EVERY_SECONDS)
    stop(server, arguments.signal)
    if not is_alive(arguments.owner):
        shutil.rmtree(arguments.folder, ignore_errors=True)
    return server.returncode


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stop(server: subprocess.Popen[bytes], first: int) -> None:
    """End the server and what it started: it leads a process group of its own."""
    if server.poll() is None:
        server.send_signal(first)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(_GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--owner", type=int, required=True, help="the process whose end ends the server")
    parser.add_argument("--folder", type=Path, required=True, help="the server's data and working directory")
    parser.add_argument("--user", help="run the server as this user and the group of the same name")
    parser.add_argument("--signal", type=int, default=signal.SIGTERM, help="what tells the server to stop")
    parser.add_argument("command", nargs="+")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(read_arguments()))
