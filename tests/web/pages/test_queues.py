"""The page of queues by HTTP, on both databases."""

from datetime import timedelta
from typing import Any

import httpx2
from sqlalchemy import update

from orderup.cli.assembly import House
from orderup.db.tables import permits
from orderup.engine.limit import rest_until
from orderup.model.ids import read_task_id
from orderup.model.plan import Plan, PlannedTask
from orderup.model.times import as_micros
from orderup.web.tokens import Role
from tests.web.house import client_of, place, token_of
from tests.web.pages.reading import buttons, cell, press, row_with, words_of

SAND = Plan([PlannedTask("sand")])


async def claim(house: House, kind: str, *, most: int = 10) -> list[str]:
    """Ids of the tasks that a worker now holds."""
    async with client_of(house.back, token=token_of(Role.WORKER)) as client:
        ask = {"worker": "w1", "shop": "workshop", "tasks": [kind], "max": most}
        return [task["id"] for task in (await client.post("/api/work/claim", json=ask)).json()["tasks"]]


async def end(house: House, id: str) -> None:
    """What the worker holds, with whatever token."""
    async with client_of(house.back, token=token_of(Role.WORKER)) as client:
        [operation] = (await house.database.load([read_task_id(id)[0]])).values()
        token = operation.tasks[0].token
        answer = await client.post(f"/api/work/{id}/complete", json={"token": token})
        assert answer.status_code == 200, answer.text


async def row(staff: httpx2.AsyncClient, kind: str) -> str:
    answer = await staff.get("/queues")
    assert answer.status_code == 200, answer.text
    return row_with(answer.text, f'id="queue-workshop-{kind}"')


async def test_a_queue_says_what_waits_since_when_and_what_runs(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    for _ in range(3):
        await place(limited_house, Plan([PlannedTask("saw")]))
    await place(limited_house, Plan([PlannedTask("saw", region="paris")]))
    await claim(limited_house, "saw", most=1)
    saw = await row(staff, "saw")
    assert cell(saw, "Waiting").startswith("2, the oldest for ")
    assert "paris: 1, the oldest for " in cell(saw, "Waiting")
    assert cell(saw, "Running") == "1 paris: 0"
    assert cell(saw, "Limits") == "none"
    polish = await row(staff, "polish")
    assert (cell(polish, "Waiting"), cell(polish, "Running")) == ("0", "0")


async def test_what_runs_in_a_region_is_told_though_nothing_waits_there(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    await place(limited_house, Plan([PlannedTask("saw", region="paris")]))
    async with client_of(limited_house.back, token=token_of(Role.WORKER, region="paris")) as client:
        ask = {"worker": "w1", "shop": "workshop", "tasks": ["saw"]}
        assert len((await client.post("/api/work/claim", json=ask)).json()["tasks"]) == 1
    assert cell(await row(staff, "saw"), "Running") == "0 paris: 1"


async def test_limits_are_told_with_their_use_in_words_and_as_a_bar(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    for _ in range(3):
        await place(limited_house, SAND)
    [*held] = await claim(limited_house, "sand")
    assert len(held) == 2, "no more than two at once"
    sand = await row(staff, "sand")
    assert cell(sand, "Limits") == "2 of 3 a minute 2 of 2 at once"
    assert '<meter min="0" max="3" value="2"' in sand
    async with client_of(limited_house.back, token=token_of(Role.STAFF)) as client:
        told = {each["name"]: each for each in (await client.get("/api/queues")).json()["queues"]}
    assert told["workshop/sand"]["spent_of_rate"] == 2
    two_minutes_ago = permits.c.taken_at - 120_000_000
    await limited_house.database.write(
        lambda connection: connection.execute(update(permits).values(taken_at=two_minutes_ago))
    )
    assert cell(await row(staff, "sand"), "Limits") == "0 of 3 a minute 2 of 2 at once"
    assert told["workshop/sand"]["running"] == told["workshop/sand"]["running_of_concurrency"] == 2


async def told_allowances(house: House) -> dict[str, dict[str, Any]]:
    async with client_of(house.back, token=token_of(Role.STAFF)) as client:
        return {each["name"]: each for each in (await client.get("/api/queues")).json()["allowances"]}


async def test_an_allowance_is_told_with_its_use_and_so_is_a_share_of_it(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    whole = (await told_allowances(limited_house))["workshop/neighbour"]
    assert whole == {
        "name": "workshop/neighbour",
        "rate": "2/3600 seconds",
        "used": 0,
        "calls": 0,
        "next_in": None,
        "queues": ["workshop/borrow", "workshop/return"],
    }
    for kind in ("borrow", "return", "return"):
        await place(limited_house, Plan([PlannedTask(kind)]))
    [giving] = await claim(limited_house, "return")
    told = await told_allowances(limited_house)
    share = told["workshop/neighbour x 0.5"]
    assert (share["rate"], share["used"], share["calls"], share["next_in"]) == ("1/3600 seconds", 1, 1, None)
    assert share["queues"] == ["workshop/return"]
    page = words_of((await staff.get("/queues")).text)
    assert "neighbour , shared by borrow, return: 1 of 2 an hour, 1 under way" in page
    assert cell(await row(staff, "borrow"), "Limits") == "shares neighbour"
    await end(limited_house, giving)
    share = (await told_allowances(limited_house))["workshop/neighbour x 0.5"]
    assert (share["used"], share["calls"]) == (1, 0)
    assert 3590 < share["next_in"] <= 3600
    assert "neighbour x 0.5 , shared by return: 1 of 1 an hour, the next in 1 h" in words_of(
        (await staff.get("/queues")).text
    )
    an_hour_ago = permits.c.taken_at - 3_601_000_000
    await limited_house.database.write(
        lambda connection: connection.execute(update(permits).values(taken_at=an_hour_ago))
    )
    assert [each["used"] for each in (await told_allowances(limited_house)).values()] == [0, 0]


async def test_a_queue_is_paused_and_resumed_by_its_buttons(limited_house: House, staff: httpx2.AsyncClient) -> None:
    await place(limited_house, Plan([PlannedTask("saw")]))
    saw = await row(staff, "saw")
    assert (cell(saw, "State"), buttons(saw)) == ("open", ["Pause"])
    assert (await press(staff, saw, "Pause")).status_code == 303
    saw = await row(staff, "saw")
    assert (cell(saw, "State"), buttons(saw)) == ("paused by ann, until somebody resumes it", ["Resume"])
    assert await claim(limited_house, "saw") == []
    assert (await press(staff, saw, "Resume")).status_code == 303
    assert cell(await row(staff, "saw"), "State") == "open"
    assert len(await claim(limited_house, "saw")) == 1


async def test_a_rest_that_a_third_party_asked_for_says_so_and_until_when_and_can_be_ended(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    until = limited_house.engine.now() + as_micros(timedelta(hours=1))
    await limited_house.database.write(lambda connection: rest_until(connection, "workshop/saw", until))
    saw = await row(staff, "saw")
    assert cell(saw, "State").endswith(": a third party asked for a rest")
    assert "paused by" not in words_of(saw)
    assert buttons(saw) == ["Pause", "Resume"]
    await press(staff, saw, "Resume")
    assert cell(await row(staff, "saw"), "State") == "open"


async def test_a_rest_that_is_over_is_not_told(limited_house: House, staff: httpx2.AsyncClient) -> None:
    await limited_house.database.write(
        lambda connection: rest_until(connection, "workshop/saw", limited_house.engine.now() - 1)
    )
    assert cell(await row(staff, "saw"), "State") == "open"


async def told_pause(house: House, kind: str) -> tuple[bool, bool, str | None]:
    """Whether it is paused by hand, whether a rest lies ahead, and who paused it, as programs are told."""
    async with client_of(house.back, token=token_of(Role.STAFF)) as client:
        told = {each["name"]: each for each in (await client.get("/api/queues")).json()["queues"]}[f"workshop/{kind}"]
    return told["is_paused"], told["paused_until"] is not None, told["paused_by"]


async def test_programs_are_told_of_a_rest_only_while_it_lies_ahead(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    async def rest(kind: str, *, ends_in: timedelta) -> None:
        until = limited_house.engine.now() + as_micros(ends_in)
        await limited_house.database.write(lambda connection: rest_until(connection, f"workshop/{kind}", until))

    await rest("saw", ends_in=timedelta(seconds=-1))
    await rest("polish", ends_in=timedelta(hours=1))
    assert await told_pause(limited_house, "saw") == (False, False, None)
    assert await told_pause(limited_house, "polish") == (False, True, None)
    for kind in ("saw", "polish"):
        await press(staff, await row(staff, kind), "Pause")
    assert await told_pause(limited_house, "saw") == (True, False, "ann")
    assert await told_pause(limited_house, "polish") == (True, True, "ann")


async def test_what_people_do_leads_to_its_station_and_what_a_handler_does_to_none(staff: httpx2.AsyncClient) -> None:
    page = (await staff.get("/queues")).text
    assert 'href="/station/workshop/saw"' in page
    assert "/station/workshop/glue" not in page
    assert (await staff.get("/station/workshop/saw")).status_code == 200


async def test_staff_of_another_shop_sees_no_queue_of_this_one_and_cannot_pause_it(limited_house: House) -> None:
    async with client_of(limited_house.back, token=token_of(Role.STAFF, shop="bakery")) as client:
        page = await client.get("/queues")
        assert "No shop that you may see" in words_of(page.text)
        assert (await client.post("/queues/workshop/saw", data={"verb": "pause"})).status_code == 404
        assert (await client.get("/api/queues")).json() == {"queues": [], "allowances": []}
    async with client_of(limited_house.back, token=token_of(Role.STAFF)) as client:
        told = (await client.get("/api/queues")).json()["queues"]
    assert not any(each["is_paused"] for each in told)


async def test_a_queue_that_there_is_not_is_told_on_a_page(staff: httpx2.AsyncClient) -> None:
    part = '<form action="/queues/workshop/fly"><button name="verb" value="pause">Pause</button></form>'
    page = (await staff.get("/queues")).text
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    field = f'<input type="hidden" name="csrf" value="{csrf}">'
    answer = await press(staff, part.replace("<button", f"{field}<button"), "Pause")
    assert answer.status_code == 404
    assert "Nothing was changed" in answer.text
