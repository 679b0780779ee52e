"""The first page of the back by HTTP, on both databases."""

import csv
import io
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import update

from orderup.cli.assembly import House
from orderup.db.tables import tasks
from orderup.engine.decide import approve_rfa
from orderup.engine.place import place_order
from orderup.engine.steer import cancel_operation
from orderup.model.ids import OperationId, first_operation_id, read_id
from orderup.model.operation import Operation
from orderup.model.plan import Plan, PlannedTask
from orderup.web.pages.today import cell
from orderup.web.tokens import Role
from tests.web.house import ASKED, DATABASES, client_of, open_test_house, settings_for, token_of

SAW = Plan([PlannedTask("saw")])


@pytest.fixture(params=DATABASES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    async with open_test_house(settings_for(tmp_path, **values)) as house:
        yield house


@pytest.fixture
async def back(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(house.back, token=token_of(Role.STAFF)) as client:
        yield client


async def place_now(house: House, plan: Plan = SAW, *, n: int = 0) -> Operation:
    """With the n-th id of this moment, whatever ids this process has made."""
    id = OperationId(first_operation_id(house.engine.now()) + n)
    return await place_order(house.engine, "workshop", plan, operation_id=id)


async def work(house: House, verb: str, **body: object) -> str:
    """Claim the one saw task there is, end it; the operation's id."""
    async with client_of(house.back, token=token_of(Role.WORKER)) as client:
        ask = {"worker": "w1", "shop": "workshop", "tasks": ["saw"]}
        [task] = (await client.post("/api/work/claim", json=ask)).json()["tasks"]
        answer = await client.post(f"/api/work/{task['id']}/{verb}", json={"token": task["token"], **body})
    assert answer.status_code == 200, answer.text
    return str(task["operation_id"])


async def numbers(back: httpx2.AsyncClient, address: str = "/today.csv") -> list[tuple[str, ...]]:
    answer = await back.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv")
    return [tuple(row) for row in csv.reader(io.StringIO(answer.text))]


def part_of(page: str, id: str) -> str:
    """The words of the element with this id, up to the next one that is kept true."""
    words = page.partition(f'id="{id}"')[2].partition(">")[2].partition("data-swap")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>?", " ", words))


async def test_an_empty_day_says_what_will_be_seen_here(back: httpx2.AsyncClient) -> None:
    page = (await back.get("/")).text
    assert "Nothing was placed in the last 24 hours" in page
    assert "No order has been completed yet" in page
    assert "No task waits" in page


async def test_what_became_of_the_days_operations_is_drawn_and_in_the_table_and_in_the_csv(
    house: House, back: httpx2.AsyncClient
) -> None:
    await place_now(house)
    await work(house, "complete")
    await place_now(house)
    await work(house, "fail", error="the saw broke", final=True)
    cancelled = await place_now(house)
    await cancel_operation(house.engine, cancelled.id, reason="closed")
    for n in (1, 2):
        await place_now(house, n=n)
    page = (await back.get("/")).text
    placed = [row for row in await numbers(back) if row[0] == "placed by hour"]
    assert len(placed) == 24 * 4
    told = {outcome: sum(int(row[3]) for row in placed if row[2] == outcome) for _, _, outcome, _ in placed}
    assert told == {"completed": 1, "errored": 1, "cancelled": 1, "open": 2}
    for outcome in told:
        assert f'class="bar-{outcome}"' in page.partition('id="hours-chart"')[2].partition("legend")[0]
    in_table = [int(number) for number in re.findall(r'<td class="number">(\d+)</td>', page.partition('id="hours"')[2])]
    assert sum(in_table[: 24 * 4]) == 5


async def test_what_wants_somebody_is_counted_and_linked(house: House, back: httpx2.AsyncClient) -> None:
    await place_now(house)
    await work(house, "fail", error="the saw broke", final=True)
    for n in (1, 2):
        await place_now(house, ASKED, n=n)
    attention = (await back.get("/")).text.partition('id="attention"')[2].partition("</ul>")[0]
    found = re.findall(r'href="([^"]*)"><strong[^>]*>(\d+)</strong>', attention)
    assert [(address.replace("&amp;", "&"), count) for address, count in found] == [
        ("/inbox", "2"),
        ("/operations?status=errored&shop=", "1"),
        ("/operations?status=paused&shop=", "0"),
        ("/operations?status=running&shop=", "0"),
    ]
    for address, _ in found:
        assert (await back.get(address)).status_code == 200


async def test_times_of_the_last_orders_are_shown_by_kind(house: House, back: httpx2.AsyncClient) -> None:
    asked = await place_now(house, Plan([PlannedTask("saw")], approval=ASKED.approval))
    await approve_rfa(house.engine, asked.id, by="ann", notes=None)
    id = read_id(await work(house, "complete"))
    begun = house.engine.now()
    moments = {"ready_at": begun - 60_000_000, "started_at": begun, "finished_at": begun + 180_000_000}
    await house.database.write(
        lambda connection: connection.execute(update(tasks).where(tasks.c.operation_id == id).values(moments))
    )
    rows = await numbers(back)
    assert ("last orders", "workshop/saw", "waited seconds, median", "60.0") in rows
    assert ("last orders", "workshop/saw", "took seconds, 90 %", "180.0") in rows
    page = (await back.get("/")).text
    assert "workshop: saw 1 1 min 1 min 3 min 3 min" in part_of(page, "took")
    assert "workshop: approval" in part_of(page, "took")
    assert "<title>took 3 min, 90 %: 3 min</title>" in page


async def test_the_age_of_the_first_in_line_is_shown_by_queue(house: House, back: httpx2.AsyncClient) -> None:
    for n in (0, 1):
        await place_now(house, n=n)
    rows = {row[2]: row[3] for row in await numbers(back) if row[:2] == ("queues", "workshop/saw")}
    assert rows["pending"] == "2"
    assert 0 <= float(rows["oldest waits seconds"]) < 60
    page = (await back.get("/")).text
    assert "workshop/saw 2 " in part_of(page, "waits")
    assert "<title>workshop/saw: " in page


async def test_a_shop_that_is_asked_for_is_told_alone(house: House, back: httpx2.AsyncClient) -> None:
    await place_now(house)
    assert len(await numbers(back, "/today.csv?shop=workshop")) > 24 * 4
    elsewhere = await numbers(back, "/today.csv?shop=bakery")
    assert {row[3] for row in elsewhere[1:]} == {"0"}
    assert "Nothing was placed" in (await back.get("/?shop=bakery")).text


async def test_a_token_for_another_shop_sees_nothing_of_this_one(house: House) -> None:
    await place_now(house)
    async with client_of(house.back, token=token_of(Role.STAFF, shop="bakery")) as client:
        assert "workshop" not in (await client.get("/")).text.partition("<main")[2]
        assert "workshop" not in (await client.get("/today.csv")).text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_cell_is_a_formula_to_a_spreadsheet(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["workshop/saw", "a=b", 3, 0.25])
def test_any_other_cell_is_what_it_is(value: object) -> None:
    assert cell(value) == str(value)


async def test_whoever_has_not_signed_in_gets_no_numbers(house: House) -> None:
    async with client_of(house.back) as client:
        assert (await client.get("/today.csv")).status_code == 401
        assert (await client.get("/")).status_code == 401
