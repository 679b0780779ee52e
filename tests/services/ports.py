"""Free ports on the loopback interface, given out so that no two test processes of this machine get the same one."""

import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path

# Below 32768: from there on Linux takes the local ends of outgoing connections, which could take the port in between.
_FIRST, _LAST = 20_000, 31_999
_given: set[int] = set()


def free_port() -> int:
    """Give a port that nothing listens on at 127.0.0.1. It stays this process's until the process ends."""
    ports = list(range(_FIRST, _LAST + 1))
    random.shuffle(ports)
    for port in ports:
        if port not in _given and _claim(port) and _is_free(port):
            _given.add(port)
            return port
    raise OSError(f"No port between {_FIRST} and {_LAST} is free on 127.0.0.1.")


def _claim(port: int) -> bool:
    """Lock the byte that stands for the port; the system lets go of it when this process ends, however it ends."""
    try:
        fcntl.lockf(_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    return True


@functools.cache
def _claims() -> int:
    """Open the file all test processes of this user share. It is never closed: that would let go of every claim."""
    path = Path(tempfile.gettempdir()) / f"orderup-ports-{os.getuid()}"
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # Without it a port whose last connection ended within a minute would look taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
