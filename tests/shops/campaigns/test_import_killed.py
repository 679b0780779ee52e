"""A server or a command that is killed while it places the campaigns of a file, on both databases."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from orderup.db.tables import operations
from orderup.shops.campaigns.tables import campaigns, import_parts, imports
from tests.invariants.evidence import read_table_at
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ORDERUP, Program, ServerProcess
from tests.shops.campaigns.files import many, text_of, write

# Enough for a kill to hit it in the middle.
CAMPAIGNS = 150
# Nobody is asked at this address: what is tested here ends before anything is submitted.
NOWHERE = {"DSP_URL": "http://127.0.0.1:9"}


def count(url: str) -> int:
    return len(read_table_at(url, campaigns))


def look_at(link: str) -> Any:
    return httpx2.get(link, timeout=PATIENCE_SECONDS).raise_for_status().json()


def until_here(url: str, enough: int) -> None:
    wait_until(lambda: count(url) >= enough, what=f"{enough} campaigns are here")


@pytest.mark.timeout(240)
def test_a_server_that_is_killed_twice_places_each_campaign_once(database_url: str, tmp_path: Path) -> None:
    with ServerProcess("campaigns", folder=tmp_path, database_url=database_url, environment=NOWHERE) as server:
        server.start()
        text = text_of(many(CAMPAIGNS, groups=4, ads=50)).encode()
        headers = {"Content-Type": "text/csv"}
        sent = httpx2.post(f"{server.front}/campaigns/import", content=text, headers=headers, timeout=PATIENCE_SECONDS)
        links = sent.raise_for_status().json()["links"]
        httpx2.post(links["start"], timeout=PATIENCE_SECONDS).raise_for_status()
        for enough in (5, 20):
            until_here(database_url, enough)
            server.kill()
            assert enough <= count(database_url) < CAMPAIGNS
            server.start()
        wait_until(lambda: look_at(links["self"])["state"] == "done", what="all campaigns are here")
        assert look_at(links["self"])["placed"] == CAMPAIGNS
    assert len(read_table_at(database_url, import_parts)) == 0
    placed = [row for row in read_table_at(database_url, operations) if row.source == "handler"]
    assert len(placed) == count(database_url) == CAMPAIGNS


def heard_of_at(url: str) -> int:
    """When whoever places the one import has last got on."""
    [found] = read_table_at(url, imports)
    return int(found.touched_at)


@pytest.mark.timeout(240)
def test_a_command_that_places_campaigns_is_heard_of_until_it_is_killed(database_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(CAMPAIGNS, groups=4, ads=50))
    command: list[str | Path] = [ORDERUP, "campaigns", "import", path, "--yes"]
    environment = {"DATABASE_URL": database_url}
    with Program("migrate", [ORDERUP, "migrate"], log=tmp_path / "migrate.log", environment=environment) as migrating:
        assert migrating.launch().wait() == 0
    with Program("import", command, log=tmp_path / "import.log", environment=environment) as program:
        program.launch()
        until_here(database_url, 1)
        before = heard_of_at(database_url)
        wait_until(lambda: heard_of_at(database_url) > before, what="it is heard of")
        program.kill()
    assert count(database_url) < CAMPAIGNS
