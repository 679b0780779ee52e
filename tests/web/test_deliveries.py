"""What went out, at the API and on its page, on both databases."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert, literal, select

from orderup.cli.assembly import House
from orderup.db.database import WriteConnection
from orderup.db.deliveries import MOST_LOOKED_AT, Outcome, read_due, register_target, settle
from orderup.db.read import events_between
from orderup.db.tables import deliveries, events
from orderup.engine.claim import claim_now, queues_for
from orderup.model.event import Audience, Event
from orderup.model.ids import read_id
from orderup.model.plan import Plan, PlannedTask
from orderup.web.tokens import Role
from tests.web.house import DATABASES, client_of, open_test_house, place, settings_for, token_of
from tests.web.pages.reading import buttons, cell, press, row_with, signed_in, words_of

SHELF = "shelf"
SAW = Plan([PlannedTask("saw")])


@pytest.fixture(params=DATABASES)
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    is_file = request.param == "sqlite"
    values = {} if is_file else {"database_url": request.getfixturevalue("prepared_postgres")}
    async with open_test_house(settings_for(tmp_path, **values)) as house:
        yield house


@pytest.fixture
async def api(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(house.back, token=token_of(Role.STAFF)) as client:
        yield client


@pytest.fixture
async def browser(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(house.back) as client:
        yield await signed_in(client, token_of(Role.STAFF, "ann"))


async def queue(house: House, *, target: str = SHELF) -> list[Event]:
    """The first events of a new operation, which are to go to a target."""
    found = await events_after(house, read_id(await place(house, SAW)), 0)
    now = house.engine.now()

    def write(connection: Any) -> None:
        register_target(connection, target, place="https://shelf.example", position=0)
        settle(connection, target, [], told=found, now=now)

    await house.database.write(write)
    return found


async def events_after(house: House, operation_id: int, after: int) -> list[Event]:
    return await house.database.read(
        lambda connection: events_between(
            connection,
            after=after,
            until=1 << 60,
            operation_id=operation_id,
            shop=None,
            audience=Audience.STAFF,
            most=9,
        )
    )


async def end(house: House, events: Sequence[Event], error: str | None = None) -> None:
    """What came of the first try."""
    now = house.engine.now()
    outcomes = [Outcome(event.seq, event.operation_id, error) for event in events]
    await house.database.write(lambda connection: settle(connection, SHELF, outcomes, now=now))


async def due(house: House) -> list[int]:
    """Which events are to be sent now."""
    now = house.engine.now()
    found, _ = await house.database.read(lambda connection: read_due(connection, SHELF, now=now, most=99))
    return sorted(each.event.seq for each in found)


async def listed(api: httpx2.AsyncClient, **filters: object) -> dict[str, Any]:
    answer = await api.get("/api/deliveries", params={name: str(value) for name, value in filters.items()})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_without_a_target_the_page_says_how_to_have_one(browser: httpx2.AsyncClient) -> None:
    assert "Nobody is told of events yet. Set WEBHOOK_URL" in words_of((await browser.get("/deliveries")).text)


async def test_deliveries_are_listed_with_the_newest_first_and_found_by_filters(
    house: House, api: httpx2.AsyncClient
) -> None:
    [arrived], [given_up], [waiting] = [await queue(house) for _ in range(3)]
    [elsewhere] = await queue(house, target="attic")
    await end(house, [arrived])
    await end(house, [given_up], "answered 410")
    told = await listed(api)
    assert [each["seq"] for each in told["deliveries"]] == [
        elsewhere.seq,
        waiting.seq,
        given_up.seq,
        arrived.seq,
    ]
    assert [(each["name"], each["pending"], each["failed"]) for each in told["targets"]] == [
        ("attic", 1, 0),
        (SHELF, 1, 1),
    ]
    states = {
        state: [each["seq"] for each in (await listed(api, state=state, target=SHELF))["deliveries"]]
        for state in ("pending", "delivered", "failed")
    }
    assert states == {"pending": [waiting.seq], "delivered": [arrived.seq], "failed": [given_up.seq]}
    [one] = (await listed(api, operation=told["deliveries"][2]["operation_id"]))["deliveries"]
    assert (one["seq"], one["error"], one["tries"], one["type"]) == (
        given_up.seq,
        "answered 410",
        1,
        "operation.placed",
    )


async def test_pages_by_cursor_hold_each_delivery_once(house: House, api: httpx2.AsyncClient) -> None:
    for target in (SHELF, "attic", SHELF, "attic", SHELF):
        await queue(house, target=target)
    found, cursor = [], None
    while True:
        told = await listed(api, limit=2, **({} if cursor is None else {"cursor": cursor}))
        found += [each["id"] for each in told["deliveries"]]
        cursor = told["cursor"]
        if cursor is None:
            break
    assert found == [each["id"] for each in (await listed(api))["deliveries"]]
    assert len(set(found)) == 5


async def test_a_page_looks_through_some_thousands_and_says_where_the_next_one_goes_on(
    house: House, api: httpx2.AsyncClient, browser: httpx2.AsyncClient
) -> None:
    """However few of very many are wanted, and however many there have ever been."""
    [rare] = await queue(house, target="attic")
    [often] = await queue(house)
    await house.database.write(lambda connection: _deliver_more(connection, often, MOST_LOOKED_AT))
    pages: list[list[int]] = []
    cursor = None
    while not pages or cursor is not None:
        told = await listed(api, target="attic", **({} if cursor is None else {"cursor": cursor}))
        cursor = told["cursor"]
        pages.append([each["seq"] for each in told["deliveries"]])
    assert pages == [[], [rare.seq]]
    page = (await browser.get("/deliveries", params={"target": "attic"})).text
    assert "look at older ones below" in page
    assert "Older ones</a>" in page
    async with client_of(house.back, token=token_of(Role.STAFF, shop="bakery")) as client:
        assert (await listed(client))["cursor"] is not None


def _deliver_more(connection: WriteConnection, event: Event, count: int) -> None:
    """So many events of one operation to the shelf, which have arrived."""
    row = {"operation_id": event.operation_id, "at": event.at, "type": "task.retrying", "shop": event.shop}
    row |= {"status": "running", "message": "", "audience": 1}
    connection.execute(insert(events), [{**row, "n": 1_000 + number} for number in range(count)])
    given = {"target": SHELF, "state": "delivered", "tries": 1, "at": event.at, "ended_at": event.at}
    values = [literal(value, deliveries.c[name].type).label(name) for name, value in given.items()]
    those = select(events.c.seq, events.c.operation_id, *values).where(events.c.n >= 1_000)
    connection.execute(insert(deliveries).from_select(["seq", "operation_id", *given], those))


async def test_one_that_was_given_up_is_sent_again(house: House, api: httpx2.AsyncClient) -> None:
    [event] = await queue(house)
    await end(house, [event], "answered 410")
    assert await due(house) == []
    answer = await api.post(f"/api/deliveries/{event.seq}-{SHELF}/redeliver")
    assert (answer.status_code, answer.json()["state"], answer.json()["tries"]) == (200, "pending", 0)
    assert await due(house) == [event.seq]


async def test_the_same_request_sends_it_again_once(house: House, api: httpx2.AsyncClient) -> None:
    [event] = await queue(house)
    await end(house, [event])
    path, key = f"/api/deliveries/{event.seq}-{SHELF}/redeliver", {"Idempotency-Key": "again"}
    assert (await api.post(path, headers=key)).json()["state"] == "pending"
    await end(house, [event])
    answer = await api.post(path, headers=key)
    assert (answer.json()["state"], answer.headers["Idempotency-Replayed"]) == ("delivered", "true")


async def test_all_that_a_target_gave_up_is_sent_again_and_nothing_else(house: House, api: httpx2.AsyncClient) -> None:
    [arrived], *given_up = [await queue(house) for _ in range(4)]
    await end(house, [arrived])
    await end(house, [event for [event] in given_up], "answered 410")
    answer = await api.post(f"/api/targets/{SHELF}/redeliver")
    assert answer.json() == {"redelivered": 3}
    assert await due(house) == [event.seq for [event] in given_up]
    assert (await api.post("/api/targets/nowhere/redeliver")).status_code == 404


async def test_a_try_that_is_to_come_is_brought_forward_and_one_behind_another_waits_on(
    house: House, api: httpx2.AsyncClient
) -> None:
    [event] = await queue(house)
    later = Outcome(event.seq, event.operation_id, "answered 500", house.engine.now() + 3_600_000_000)
    await house.database.write(lambda connection: settle(connection, SHELF, [later], now=house.engine.now()))
    behind = Event(
        event.operation_id, 2, event.at, "task.started", "workshop", 0, "saw", "running", "", 0, event.seq + 1
    )
    await house.database.write(lambda connection: settle(connection, SHELF, [], told=[behind], now=house.engine.now()))
    assert await due(house) == []
    answer = await api.post(f"/api/deliveries/{event.seq}-{SHELF}/redeliver")
    assert (answer.json()["state"], answer.json()["tries"]) == ("pending", 1)
    assert await due(house) == [event.seq]


async def test_what_is_sent_again_goes_before_what_comes_after_it_and_one_at_a_time(
    house: House, api: httpx2.AsyncClient
) -> None:
    [first] = await queue(house)
    await claim_now(house.engine, queues_for("workshop", ["saw"], None), worker="ann", most=1, own_lease=False)
    [second] = await events_after(house, first.operation_id, first.seq)
    await house.database.write(lambda connection: settle(connection, SHELF, [], told=[second], now=house.engine.now()))
    await end(house, [first], "answered 410")
    assert await due(house) == [second.seq]
    await api.post(f"/api/deliveries/{first.seq}-{SHELF}/redeliver")
    assert await due(house) == [first.seq]
    await end(house, [first])
    assert await due(house) == [second.seq]


@pytest.mark.parametrize("id", ["nothing", f"1-{SHELF}x", f"999999999999-{SHELF}", f"99999999999999999999-{SHELF}"])
async def test_a_delivery_that_there_is_not_is_told(api: httpx2.AsyncClient, id: str) -> None:
    assert (await api.post(f"/api/deliveries/{id}/redeliver")).status_code == 404


async def test_a_token_of_another_shop_sees_and_sends_nothing_of_this_one(house: House) -> None:
    [event] = await queue(house)
    await end(house, [event], "answered 410")
    async with client_of(house.back, token=token_of(Role.STAFF, shop="bakery")) as client:
        assert await listed(client) == {"targets": [], "deliveries": [], "cursor": None}
        assert (await client.post(f"/api/deliveries/{event.seq}-{SHELF}/redeliver")).status_code == 404
        assert (await client.post(f"/api/targets/{SHELF}/redeliver")).status_code == 404
    assert await due(house) == []


async def test_the_page_says_how_it_goes_and_sends_again(house: House, browser: httpx2.AsyncClient) -> None:
    [arrived], [given_up] = [await queue(house) for _ in range(2)]
    await end(house, [arrived])
    await end(house, [given_up], "answered 410: it does not want this one")
    page = (await browser.get("/deliveries")).text
    card = words_of(page.partition('id="target-shelf"')[2].partition(">")[2].partition("</li>")[0])
    assert card.startswith("shelf nobody sends https://shelf.example 0 pending 1 given up")
    row = row_with(page, f'id="delivery-{given_up.seq}-shelf"')
    assert (cell(row, "State"), cell(row, "What came of it")) == ("failed", "answered 410: it does not want this one")
    assert buttons(row) == ["Send again"]
    assert cell(row_with(page, f'id="delivery-{arrived.seq}-shelf"'), "What came of it").startswith("arrived ")
    assert (await press(browser, row, "Send again")).status_code == 303
    assert await due(house) == [given_up.seq]
    page = (await browser.get("/deliveries")).text
    row = row_with(page, f'id="delivery-{given_up.seq}-shelf"')
    assert (cell(row, "State"), buttons(row)) == ("pending", ["Send now"])
    assert "Send all given up again" not in page


async def test_the_page_sends_all_that_was_given_up_again(house: House, browser: httpx2.AsyncClient) -> None:
    events = [event for _ in range(2) for event in await queue(house)]
    await end(house, events, "answered 410")
    page = (await browser.get("/deliveries?state=failed")).text
    assert (await press(browser, page, "Send all given up again")).status_code == 303
    assert await due(house) == [event.seq for event in events]


async def test_the_metrics_tell_what_waits_and_what_was_given_up(house: House, api: httpx2.AsyncClient) -> None:
    [event], _ = [await queue(house) for _ in range(2)]
    await end(house, [event], "answered 410")
    text = (await api.get("/metrics")).text
    assert 'orderup_deliveries{state="pending",target="shelf"} 1.0' in text
    assert 'orderup_deliveries{state="failed",target="shelf"} 1.0' in text
    assert 'orderup_delivery_oldest_seconds{target="shelf"}' in text
