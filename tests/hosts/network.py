"""A network of hosts that are namespaces of this machine: `ip netns`, joined to a bridge by pairs of interfaces.

This machine has an address in it, at which servers of a test listen; every host reaches that one, and no other machine.
Only root may make one. What a killed test run has left behind is removed by the next.
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.services.keeper import is_alive

PREFIX = "orderup-"
# Whatever a host starts counts its processes from 1, and ends with the process that stands before it.
APART = ("unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
_numbers = itertools.count(1)


class Network:
    """`address`: this machine's in it. Named after the test run's process, by which leftovers are known."""

    def __init__(self) -> None:
        self.bridge, self._net = _make_bridge()
        self.address = f"{self._net}.1"
        self.range = f"{self._net}.0/24"
        self._links = itertools.count(2)

    def join(self, host: "Host") -> "Link":
        """Give the host an address in this network."""
        number = next(self._links)
        outer, inner = f"{self.bridge}v{number}", f"eth{len(host.links)}"
        _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", host.name)
        _ip("link", "set", outer, "master", self.bridge, "up")
        _ip("-n", host.name, "address", "add", f"{self._net}.{number}/24", "dev", inner)
        _ip("-n", host.name, "link", "set", inner, "up")
        link = Link(outer)
        host.links.append(link)
        return link

    def remove(self) -> None:
        """The bridge; what joins hosts to it goes with them."""
        _ip("link", "delete", self.bridge, check=False)


class Link:
    """Between a host and a network."""

    def __init__(self, interface: str) -> None:
        self.interface = interface

    def cut(self) -> None:
        """Nobody is told: what is sent is lost, and connections stay open at both ends."""
        _ip("link", "set", self.interface, "down")

    def mend(self) -> None:
        _ip("link", "set", self.interface, "up")


class Host:
    def __init__(self) -> None:
        self.name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        self.links: list[Link] = []
        _ip("netns", "add", self.name)
        _ip("-n", self.name, "link", "set", "lo", "up")

    def command(self, *command: str | Path) -> list[str | Path]:
        """What runs a program there. To kill it is to kill all that it has started."""
        return [shutil.which("ip") or "ip", "netns", "exec", self.name, *APART, *command]

    def remove(self) -> None:
        """With all that runs there."""
        _remove_host(self.name)


@contextlib.contextmanager
def network_of_hosts(count: int, *, networks: int = 1) -> Iterator[tuple[Sequence[Network], Sequence[Host]]]:
    """So many hosts, each joined to each of the networks, in their order."""
    _sweep_up()
    with contextlib.ExitStack() as stack:
        nets: list[Network] = []
        hosts: list[Host] = []
        for _ in range(networks):
            nets.append(Network())
            stack.callback(nets[-1].remove)
        for _ in range(count):
            hosts.append(Host())
            stack.callback(hosts[-1].remove)
            for net in nets:
                net.join(hosts[-1])
        yield nets, hosts


def find_ip() -> Path | None:
    """The program `ip`, if a host can be made with it here and have processes of its own."""
    found = shutil.which("ip")
    if found is None or os.geteuid() != 0 or shutil.which("unshare") is None:
        return None
    try:
        with network_of_hosts(1) as (_, [host]):
            subprocess.run(host.command("true"), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return Path(found)


def _make_bridge() -> tuple[str, str]:
    """Its name and the first three numbers of its addresses, of a range that nobody here uses."""
    for _ in range(100):
        second, third = random.randrange(64, 128), random.randrange(256)
        name = f"ou{second}x{third}"
        with contextlib.suppress(subprocess.CalledProcessError):  # somebody has this one
            _ip("link", "add", name, "type", "bridge")
            _ip("link", "set", name, "alias", f"{PREFIX}{os.getpid()}")
            _ip("address", "add", f"10.{second}.{third}.1/24", "dev", name)
            _ip("link", "set", name, "up")
            return name, f"10.{second}.{third}"
    raise OSError("no bridge can be made")


def _sweep_up() -> None:
    """Remove what test runs have left that were killed."""
    for found in _listed("netns", "list"):
        if _is_left(found.get("name", "")):
            _remove_host(found["name"])
    for found in _listed("link", "show", "type", "bridge"):
        if _is_left(found.get("ifalias", "")):
            _ip("link", "delete", found["ifname"], check=False)


def _is_left(name: str) -> bool:
    owner = name.removeprefix(PREFIX).partition("-")[0]
    return name.startswith(PREFIX) and owner.isdecimal() and not is_alive(int(owner))


def _remove_host(name: str) -> None:
    pids = subprocess.run(["ip", "netns", "pids", name], check=False, capture_output=True, text=True).stdout.split()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), 9)
    _ip("netns", "delete", name, check=False)


def _listed(*arguments: str) -> list[dict[str, str]]:
    done = subprocess.run(["ip", "-json", *arguments], check=False, capture_output=True, text=True)
    found: list[dict[str, str]] = json.loads(done.stdout or "[]")
    return found


def _ip(*arguments: str, check: bool = True) -> None:
    """Raises CalledProcessError."""
    subprocess.run(["ip", *arguments], check=check, capture_output=True, cwd=tempfile.gettempdir())
