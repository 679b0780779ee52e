"""The page and the API of Celery's workers, as far as they need no worker: see tests/journeys/test_celery.py."""

from pathlib import Path

import httpx2

from orderup.cli.assembly import House
from orderup.web.tokens import Role
from tests.services.ports import free_port
from tests.web.house import client_of, open_test_house, settings_for, token_of
from tests.web.pages.reading import words_of


def staff_of(house: House) -> httpx2.AsyncClient:
    return client_of(house.back, token=token_of(Role.STAFF))


async def test_a_server_that_does_its_work_itself_says_so(tmp_path: Path) -> None:
    async with open_test_house(settings_for(tmp_path)) as house, staff_of(house) as client:
        told = (await client.get("/api/celery")).json()
        assert (told["is_used"], told["workers"], told["queues"]) == (False, [], [])
        assert "does not leave its work to Celery" in words_of((await client.get("/celery")).text)
        assert 'href="/celery"' not in (await client.get("/workers")).text


async def test_a_broker_that_is_away_is_told_and_leaves_the_server_ready(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, celery_broker_url=f"redis://127.0.0.1:{free_port()}/0")
    async with open_test_house(settings, executor="celery") as house, staff_of(house) as client:
        told = (await client.get("/api/celery")).json()
        assert told["is_used"]
        assert told["problem"].startswith("The broker does not answer. Orders are taken all the same")
        assert "The broker does not answer" in words_of((await client.get("/celery")).text)
        assert 'href="/celery"' in (await client.get("/workers")).text
        assert (await client.get("/readyz")).status_code == 200
