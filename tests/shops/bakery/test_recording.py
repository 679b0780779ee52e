"""Each cancellation has one line in its customer's document, of which there is one, whatever goes wrong on the way."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from sqlalchemy import select

from orderup.db.tables import operations, tasks
from orderup.engine.forget import forget_order
from orderup.engine.place import place_order
from orderup.sandbox.google import File
from orderup.shops.bakery import shop
from orderup.shops.bakery.issues import look_for_closed
from orderup.shops.bakery.local_time import at_the_bakery
from orderup.shops.bakery.plan import RECORD, plan_issue
from orderup.shops.bakery.tables import orders
from tests.serving import sqlite_url
from tests.shops.bakery.conftest import bake, order, read
from tests.shops.served import Served, serve_shop

# Attempts come up to two seconds apart at first: most of them before search knows. The shop waits from before it notes
# what it is about to make, and a busy disk takes its time for that.
SEARCH_SECONDS = 1.8
QUICK: dict[str, Any] = {"google_search_seconds": 5, "jira_search_seconds": 1}
AMBIGUOUS = [
    {"body": "reset", "takes_effect": True},
    {"status": 500, "takes_effect": True},
    {"body": "garbage", "takes_effect": True},
    {"body": "reset"},
    {"status": 503},
    {"status": 429, "retry_after_seconds": 1},
    {"status": 403, "retry_after_seconds": 1},
]
HOW = ["done-then-reset", "done-then-500", "done-then-garbage", "reset", "503", "429", "403-rate-limit"]


@pytest_asyncio.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Served]:
    """Search at Drive finds what is new only after a while, and the shop waits for a little longer."""
    async with serve_shop(shop, sqlite_url(tmp_path), **QUICK) as bakery:
        bakery.sandbox.drive.delay_search(SEARCH_SECONDS)
        await bake(bakery)
        yield bakery


async def ordered(bakery: Served, **wishes: Any) -> int:
    answer = await order(bakery, **{"customer": "Mr Cakelover", **wishes})
    number: int = answer.json()["id"]
    return number


async def cancelled(bakery: Served, **wishes: Any) -> int:
    """The number of an order that its customer has cancelled."""
    number = await ordered(bakery, **wishes)
    answer = await bakery.client.delete(f"{bakery.front}/orders/{number}")
    assert answer.status_code == 200, answer.text
    return number


async def until_recorded(bakery: Served, *numbers: int) -> None:
    """All that follows upon their cancellations has ended."""

    def open_ones(connection: Any) -> int:
        noted = select(orders.c.number).where(orders.c.number.in_(numbers), orders.c.document.is_not(None))
        running = select(operations.c.id).where(
            operations.c.source == "follow-up", operations.c.status.in_(["pending", "running"])
        )
        return len(numbers) - len(connection.rows(noted)) + len(connection.rows(running))

    async def is_recorded() -> bool | None:
        return None if await bakery.house.database.read(open_ones) else True

    await bakery.until(is_recorded)


def documents(bakery: Served) -> list[File]:
    return bakery.sandbox.drive.documents


def line_of(number: int, *, who: str = "", cake: str = "Chocolate Cake") -> str:
    """As a pattern."""
    return rf"- Order {number} \[{re.escape(cake)}\]{re.escape(who)} : Date \d\d/\d\d/\d{{4}} \d\d:\d\d"


def assert_lines(document: File, *patterns: str) -> None:
    assert len(document.lines) == len(patterns), document.lines
    for line, pattern in zip(document.lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line


# However it is cancelled


async def test_who_cancels_has_a_line_in_a_document_of_his_own(bakery: Served) -> None:
    number = await cancelled(bakery)
    await until_recorded(bakery, number)
    [document] = documents(bakery)
    [folder] = bakery.sandbox.drive.folders
    assert (document.name, folder.name, document.parent) == ("Mr Cakelover cancelled orders", "Orders", folder.id)
    assert_lines(document, line_of(number))


async def test_what_staff_cancels_is_recorded(one_bakery: Served) -> None:
    number = await ordered(one_bakery)
    [found] = (await one_bakery.client.get(f"{one_bakery.back}/api/operations")).json()["operations"]
    answer = await one_bakery.client.post(f"{one_bakery.back}/api/operations/{found['id']}/cancel")
    assert answer.status_code == 200, answer.text
    await until_recorded(one_bakery, number)
    [document] = documents(one_bakery)
    assert_lines(document, line_of(number))


async def test_what_jira_cancels_is_recorded_and_marked_there(one_bakery: Served) -> None:
    bakery = one_bakery
    numbers = [await ordered(bakery), await ordered(bakery, customer="Ada Lovelace"), await ordered(bakery)]
    batch = await place_order(bakery.house.engine, "bakery", plan_issue())
    await bakery.until_stands(batch.id, lambda now: now.status == "completed")
    [issue] = bakery.sandbox.jira.issues.values()
    bakery.sandbox.jira.move(issue.key, labels=[*issue.labels, "missing-ingredients"])
    await place_order(bakery.house.engine, "bakery", look_for_closed())
    await until_recorded(bakery, *numbers)
    his, hers = documents(bakery) if len(documents(bakery)[0].lines) == 2 else reversed(documents(bakery))
    assert_lines(his, line_of(numbers[0]), line_of(numbers[2]))
    assert_lines(hers, line_of(numbers[1]))
    assert f"Cancelled since: 3 orders: {numbers[0]}-{numbers[2]}." in str(issue.description)


async def test_the_line_has_the_time_of_the_bakerys_clock(tmp_path: Path) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), bakery_zone="Asia/Kathmandu") as bakery:
        await bake(bakery)
        number = await cancelled(bakery)
        await until_recorded(bakery, number)
        [document] = documents(bakery)
        shown = await read(bakery, f"/orders/{number}")
        there = datetime.fromisoformat(shown["finished_at"]).astimezone(ZoneInfo("Asia/Kathmandu"))
        assert document.lines == [f"- Order {number} [Chocolate Cake] : Date {there:%d/%m/%Y %H:%M}"]


def test_a_time_is_written_as_people_write_it() -> None:
    moment = 1_641_017_400_000_000
    assert at_the_bakery(moment, "UTC") == "01/01/2022 06:10"
    assert at_the_bakery(moment, "America/New_York") == "01/01/2022 01:10"


async def test_an_order_that_nobody_cancelled_has_no_line(one_bakery: Served) -> None:
    await ordered(one_bakery)
    number = await cancelled(one_bakery)
    again = await one_bakery.client.delete(f"{one_bakery.front}/orders/{number}")
    assert again.status_code in {200, 409}
    await until_recorded(one_bakery, number)
    [document] = documents(one_bakery)
    assert_lines(document, line_of(number))


# One document a customer


async def test_customers_whose_names_make_one_id_share_a_document_that_tells_them_apart(one_bakery: Served) -> None:
    first = await cancelled(one_bakery, customer="Mr. Cakelover")
    await until_recorded(one_bakery, first)
    second = await cancelled(one_bakery, customer="mr cakelover")
    third = await cancelled(one_bakery, customer="Mr. Cakelover")
    await until_recorded(one_bakery, first, second, third)
    [document] = documents(one_bakery)
    assert document.name == "Mr. Cakelover cancelled orders"
    lines = {each.split(" [")[0]: each for each in document.lines}
    assert len(lines) == len(document.lines) == 3
    assert re.fullmatch(line_of(first), lines[f"- Order {first}"])
    assert re.fullmatch(line_of(second, who=" for mr cakelover"), lines[f"- Order {second}"])
    assert re.fullmatch(line_of(third), lines[f"- Order {third}"])


async def test_many_cancellations_at_once_make_one_document_with_all_their_lines(quick: Served) -> None:
    numbers = [await ordered(quick) for _ in range(5)]
    for number in numbers:
        await quick.client.delete(f"{quick.front}/orders/{number}")
    await until_recorded(quick, *numbers)
    [document] = documents(quick)
    assert sorted(document.lines) == document.lines
    assert_lines(document, *(line_of(number) for number in numbers))


async def test_customers_who_cancel_at_once_make_one_folder(quick: Served) -> None:
    numbers = [await cancelled(quick, customer=f"Customer {each}") for each in "ABC"]
    await until_recorded(quick, *numbers)
    assert len(documents(quick)) == 3
    [folder] = quick.sandbox.drive.folders
    assert {each.parent for each in documents(quick)} == {folder.id}


async def test_a_second_cancellation_while_nobody_knows_of_the_document_makes_no_other(quick: Served) -> None:
    """Search does not find the first one's yet, and he waits until it would."""
    numbers = [await ordered(quick) for _ in range(2)]
    quick.sandbox.drive.switch(route="create_file", status=500, takes_effect=True)
    await quick.client.delete(f"{quick.front}/orders/{numbers[0]}")
    await quick.until(_some_create(quick, 1))
    await quick.client.delete(f"{quick.front}/orders/{numbers[1]}")
    await quick.until(_two_opened(quick))
    quick.sandbox.drive.switch(route="create_file", times=1, status=500, takes_effect=True)
    await until_recorded(quick, *numbers)
    [document] = documents(quick)
    assert_lines(document, *(line_of(number) for number in numbers))
    assert len(quick.sandbox.drive.folders) == 1


def _some_create(bakery: Served, count: int) -> Callable[[], Any]:
    async def has_come() -> bool | None:
        return True if bakery.sandbox.drive.asked["create_file"] >= count else None

    return has_come


def _two_opened(bakery: Served) -> Callable[[], Any]:
    async def opened() -> bool | None:
        statement = select(tasks.c.operation_id).where(tasks.c.name == RECORD, tasks.c.attempt > 0)
        found = await bakery.house.database.read(lambda connection: connection.rows(statement))
        return True if len(found) == 2 else None

    return opened


@pytest.mark.parametrize("switch", AMBIGUOUS, ids=HOW)
@pytest.mark.parametrize("nth", [1, 2], ids=["folder", "document"])
async def test_nobody_knows_whether_it_was_made_and_it_is_made_once(
    quick: Served, switch: dict[str, Any], nth: int
) -> None:
    drive = quick.sandbox.drive
    if nth == 2:
        await until_recorded(quick, await cancelled(quick, customer="Somebody Else"))
    drive.switch(route="create_file", times=1, **switch)
    number = await cancelled(quick)
    await until_recorded(quick, number)
    assert [len(drive.folders), len(documents(quick))] == [1, nth]
    assert_lines(documents(quick)[-1], line_of(number))


@pytest.mark.parametrize("switch", AMBIGUOUS, ids=HOW)
async def test_nobody_knows_whether_a_line_was_written_and_it_is_there_once(
    quick: Served, switch: dict[str, Any]
) -> None:
    first = await cancelled(quick)
    await until_recorded(quick, first)
    quick.sandbox.drive.switch(route="write_document", times=1, **switch)
    second = await cancelled(quick)
    await until_recorded(quick, first, second)
    [document] = documents(quick)
    assert_lines(document, line_of(first), line_of(second))


@pytest.mark.parametrize("route", ["sign_in", "find_files", "read_file", "read_document"])
@pytest.mark.parametrize("switch", [{"body": "reset"}, {"status": 500}, {"body": "garbage"}], ids=["reset", "500", "?"])
async def test_what_only_asks_may_fail_and_is_asked_again(quick: Served, route: str, switch: dict[str, Any]) -> None:
    quick.sandbox.drive.switch(route=route, times=2, **switch)
    number = await cancelled(quick)
    await until_recorded(quick, number)
    [document] = documents(quick)
    assert_lines(document, line_of(number))


# People have the document open, too


async def test_what_somebody_writes_between_reading_and_writing_stays(quick: Served) -> None:
    first = await cancelled(quick)
    await until_recorded(quick, first)
    [document] = documents(quick)
    drive = quick.sandbox.drive
    drive.switch(route="write_document", times=1, delay_seconds=1)
    arrived = drive.asked["write_document"] + 1
    second = await cancelled(quick)
    await drive.ledger.until(lambda _: drive.asked["write_document"] == arrived)
    document.write(f"{document.text}He never comes\nto fetch")
    await until_recorded(quick, first, second)
    assert_lines(document, line_of(first), "He never comes", "to fetch", line_of(second))


async def test_who_adds_words_to_a_line_does_not_have_it_written_again(quick: Served) -> None:
    first = await cancelled(quick)
    await until_recorded(quick, first)
    [document] = documents(quick)
    document.write(f"{document.text.rstrip()} -- we called him\n")
    second = await cancelled(quick)
    await until_recorded(quick, first, second)
    assert_lines(document, f"{line_of(first)} -- we called him", line_of(second))


@pytest.mark.parametrize("with_folder", [False, True], ids=["document", "folder-too"])
async def test_a_document_in_the_bin_is_made_again_with_all_lines(quick: Served, with_folder: bool) -> None:  # noqa: FBT001
    first = await cancelled(quick)
    await until_recorded(quick, first)
    [document], [folder] = documents(quick), quick.sandbox.drive.folders
    document.trashed, folder.trashed = True, with_folder
    second = await cancelled(quick)
    third = await cancelled(quick)
    await until_recorded(quick, first, second, third)
    [other] = documents(quick)
    [its] = quick.sandbox.drive.folders
    assert_lines(document, line_of(first))
    assert_lines(other, line_of(first), line_of(second), line_of(third))
    assert other.parent == its.id
    assert (its is folder) == (not with_folder)


async def test_a_document_that_was_deleted_for_good_is_made_again(quick: Served) -> None:
    first = await cancelled(quick)
    await until_recorded(quick, first)
    del quick.sandbox.drive.files[documents(quick)[0].id]
    second = await cancelled(quick)
    await until_recorded(quick, first, second)
    [document] = documents(quick)
    assert_lines(document, line_of(first), line_of(second))


async def test_after_an_order_was_forgotten_others_of_that_name_are_not_written_again(quick: Served) -> None:
    first, second = await cancelled(quick), await cancelled(quick)
    await until_recorded(quick, first, second)
    ids = select(orders.c.operation_id).where(orders.c.number == first)
    [(operation_id,)] = await quick.house.database.read(lambda connection: connection.rows(ids))
    await forget_order(quick.house.engine, operation_id, shops={"bakery": shop.forget})
    third = await cancelled(quick)
    await until_recorded(quick, second, third)
    [document] = documents(quick)
    assert_lines(document, line_of(first), line_of(second), line_of(third))


# No right to do so


async def test_a_no_is_told_to_staff_and_is_no_reason_to_ask_again(quick: Served) -> None:
    quick.sandbox.drive.switch(route="create_file", status=403)
    await cancelled(quick)

    async def errored() -> Any:
        found = await quick.client.get(f"{quick.back}/api/operations?status=errored")
        return found.json()["operations"] or None

    [operation] = await quick.until(errored)
    shown = (await quick.client.get(f"{quick.back}/api/operations/{operation['id']}")).json()
    assert "403" in next(task["error"] for task in shown["tasks"] if task["error"])
    assert quick.sandbox.drive.asked["create_file"] == 1


async def test_a_token_that_ended_is_renewed(quick: Served) -> None:
    first = await cancelled(quick)
    await until_recorded(quick, first)
    quick.sandbox.drive.revoke_tokens()
    second = await cancelled(quick)
    await until_recorded(quick, first, second)
    assert quick.sandbox.drive.asked["sign_in"] == 2


# Names are only names


@pytest.mark.parametrize(
    "name",
    [
        "Eve\n- Order 1 [Free Cake] : Date 01/01/2022 06:10",
        "Eve\u2028- Order 1 [",
        "Eve\v- Order 1 [\f\x1c\x85- Order 1 [",
        "\u202eevE\u202c",
        "Eve <b>&amp;</b> 🎂",
        "'; drop table bakery_orders; --' or name contains 'x",
        "Eve\\' in parents or '",
    ],
    ids=range(7),
)
async def test_no_name_makes_a_line_of_its_own(quick: Served, name: str) -> None:
    made = (await bake(quick, name=f"Cake of {name}")).json()
    numbers = [await cancelled(quick, customer=name, recipe=made["id"]) for _ in range(2)]
    await until_recorded(quick, *numbers)
    [document] = documents(quick)
    assert len(document.text.splitlines()) == len(document.lines) == 2
    assert [line.split(" [")[0] for line in document.lines] == [f"- Order {number}" for number in numbers]
    assert not set(document.name + document.text) & set("\u202e\u202c\u2028\v\f")
    assert document.name == " ".join(document.name.split())
