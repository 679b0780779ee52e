"""The page of workers by HTTP, on both databases."""

import re

import httpx2
from sqlalchemy import delete, update

from orderup.cli.assembly import House
from orderup.db.tables import workers
from orderup.engine.lease import Seen, note_workers
from orderup.model.plan import Plan, PlannedTask
from orderup.web.tokens import Role
from tests.web.house import client_of, place, token_of
from tests.web.pages.reading import cell, row_with, words_of

TEN_MINUTES_US = 600_000_000


async def claim(house: House, worker: str) -> str:
    """The id of the saw task that it now holds."""
    await place(house, Plan([PlannedTask("saw")]))
    async with client_of(house.back, token=token_of(Role.WORKER)) as client:
        ask = {"worker": worker, "shop": "workshop", "tasks": ["saw"]}
        [task] = (await client.post("/api/work/claim", json=ask)).json()["tasks"]
    return str(task["id"])


async def page_of(client: httpx2.AsyncClient) -> str:
    answer = await client.get("/workers")
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_a_worker_says_where_it_is_and_what_it_holds(limited_house: House, staff: httpx2.AsyncClient) -> None:
    await note_workers(limited_house.engine, {"w1": Seen("remote", "workshop", "paris")})
    task = await claim(limited_house, "w1")
    row = row_with(await page_of(staff), ">w1<")
    assert [cell(row, label) for label in ("Kind", "Shop", "Region")] == ["remote", "workshop", "paris"]
    assert cell(row, "Holds") == task
    [address] = re.findall(r'href="(/operations/[^"#]*)#task-0"', row)
    assert (await staff.get(address)).status_code == 200
    assert re.fullmatch(r"alive \d+ s ago, at \d\d \w+ \d\d:\d\d UTC", cell(row, "Heard of"))


async def test_a_worker_that_was_not_heard_of_lately_is_silent_and_stands_last(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    await note_workers(limited_house.engine, {"a1": Seen("remote", "workshop", None), "w1": Seen("remote", None, None)})
    long_ago = limited_house.engine.now() - TEN_MINUTES_US
    await limited_house.database.write(
        lambda connection: connection.execute(update(workers).where(workers.c.id == "a1").values(seen_at=long_ago))
    )
    page = await page_of(staff)
    assert cell(row_with(page, ">a1<"), "Heard of").startswith("silent 10 min ago, at ")
    assert cell(row_with(page, ">a1<"), "Holds") == "nothing"
    assert cell(row_with(page, ">w1<"), "Heard of").startswith("alive")
    assert page.index(">w1<") < page.index(">a1<")
    async with client_of(limited_house.back, token=token_of(Role.STAFF)) as client:
        told = {each["id"]: each["is_alive"] for each in (await client.get("/api/workers")).json()["workers"]}
    assert (told["a1"], told["w1"]) == (False, True)


async def test_a_servers_own_executor_leads_to_what_runs(staff: httpx2.AsyncClient) -> None:
    row = row_with(await page_of(staff), "in a server")
    assert cell(row, "Holds") == "what runs here"
    assert 'href="/operations?status=running"' in row


async def test_an_empty_list_says_what_to_do(limited_house: House, staff: httpx2.AsyncClient) -> None:
    # staff of a shop whose workers are none of his sees nobody
    await limited_house.database.write(lambda connection: connection.execute(delete(workers)))
    page = words_of(await page_of(staff))
    assert "Nobody works yet. Start a worker" in page


async def test_staff_of_another_shop_sees_no_worker_of_this_one(limited_house: House) -> None:
    await note_workers(limited_house.engine, {"w1": Seen("remote", "workshop", None)})
    async with client_of(limited_house.back, token=token_of(Role.STAFF, shop="bakery")) as client:
        assert ">w1<" not in await page_of(client)
