"""Installing Debian's packages, where the tests run as root."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")
_LOCK = Path("/var/lock/orderup-tests-apt")


class CannotInstall(Exception):
    """The message says why, and is shown to whoever runs the tests."""


def install(*packages: str) -> None:
    """Install Debian packages without starting the servers in them. Raises CannotInstall."""
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        raise CannotInstall(f"it is not installed, and this is no Debian. Install what Debian calls {names}")
    if os.geteuid() != 0:
        raise CannotInstall(f"it is not installed, and only root can install it: sudo apt install {names}")
    print(f"tests: installing Debian's {names}", file=sys.stderr, flush=True)
    with _one_at_a_time(), _no_server_started():
        _install(packages)


def _install(packages: tuple[str, ...]) -> None:
    command = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "install", "--no-install-recommends", *packages]
    first = _run(command)
    if first.returncode == 0:
        return
    # The list of packages may be missing or so old that the version it names is gone.
    _run(["apt-get", "-q", "update"])
    second = _run(command)
    if second.returncode != 0:
        last = " / ".join(second.stdout.strip().splitlines()[-3:])
        raise CannotInstall(f"`{' '.join(command)}` failed: {last}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(
        command, check=False, env=environment, stdin=subprocess.DEVNULL, stdout=-1, stderr=subprocess.STDOUT, text=True
    )


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Wait for other test runs: apt's own locks make a second `apt-get update` fail instead of wait."""
    with _LOCK.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _no_server_started() -> Iterator[None]:
    """Keep the packages from starting their servers on the usual ports, by the file Debian's policy asks for it."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
