"""What a test of several hosts may ask for. Where none can be made it is listed as NOT RUN, as for missing services."""

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.hosts.network import Host, Network, find_ip, network_of_hosts
from tests.hosts.site import Site
from tests.journeys.scene import Scene
from tests.services import lookup
from tests.services.postgres import PostgresCluster


class Ability(lookup.Program):
    """To make hosts: the program `ip`, and the right to use it."""

    def look(self, owner: int) -> str:
        if os.geteuid() != 0:
            raise lookup.NotThere("only root makes network namespaces: run the tests as root")
        try:
            return super().look(owner)
        except lookup.NotThere as error:
            raise lookup.NotThere(
                f"{error}; network namespaces and process ids of their own must be allowed"
            ) from error


lookup.SERVICES["ip"] = Ability(
    title="hosts in namespaces of this machine",
    variable="ORDERUP_TEST_IP",
    find=find_ip,
    packages=("iproute2",),
)


@pytest.fixture
def ip(found_service: Callable[[str], str]) -> Path:
    """The program `ip`, where hosts can be made."""
    return Path(found_service("ip"))


@pytest.fixture
def networks_and_hosts(ip: Path) -> Iterator[tuple[Sequence[Network], Sequence[Host]]]:
    """Two of each: the second network is the broker's."""
    del ip
    with network_of_hosts(2, networks=2) as made:
        yield made


@pytest.fixture
async def site(
    networks_and_hosts: tuple[Sequence[Network], Sequence[Host]], postgres_programs: Path, seed: int, tmp_path: Path
) -> AsyncIterator[Site]:
    """Two hosts, and a PostgreSQL server that they reach by the first network."""
    networks, hosts = networks_and_hosts
    cluster = PostgresCluster(postgres_programs, also_at=networks[0].address)
    try:
        cluster.start()
        async with Scene(seed, cluster.url, tmp_path) as scene:
            yield Site(scene, networks, hosts)
    finally:
        cluster.remove()
