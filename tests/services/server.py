"""A server of the tests' own: a folder for its data, a keeper that runs it."""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_KEEPER = Path(__file__).with_name("keeper.py")
# Some outlive every test of their process, and Python warns of a running process that it forgets.
_kept: list[subprocess.Popen[bytes]] = []


def new_folder(name: str, *, user: str | None) -> Path:
    """Make an empty folder below /tmp that `user` owns. pytest's tmp_path would not do: other users cannot enter it."""
    folder = Path(tempfile.mkdtemp(prefix=f"orderup-{name}-"))
    folder.chmod(0o755)
    if user is not None:
        shutil.chown(folder, user, user)
    return folder


def user_for(name: str) -> str | None:
    """Who runs a server that refuses to run as root: its own user if Debian's package made one. None: we do."""
    if os.getuid() != 0:
        return None
    for candidate in (name, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(candidate).pw_name
    return None


def run_kept(
    command: Sequence[str | Path],
    *,
    folder: Path,
    owner: int,
    user: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a server under a keeper. What it prints goes to `log` in its folder.

    SIGTERM to the process given back stops the server; the end of process `owner` does too.
    """
    keeper = [sys.executable, "-I", str(_KEEPER), "--owner", str(owner), "--folder", str(folder)]
    keeper += ["--signal", str(int(stop_signal))]
    if user is not None:
        keeper += ["--user", user]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*keeper, "--", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
        )
    _kept.append(process)
    return process


def last_lines(folder: Path, count: int = 15) -> str:
    return "\n".join((folder / "log").read_text(errors="replace").splitlines()[-count:])
