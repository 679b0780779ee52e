"""Ingredients are ordered at Jira once, whatever happens, and what Jira says is missing cancels orders."""

import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from orderup.db.database import ReadConnection
from orderup.db.tables import operations
from orderup.engine.limit import pause_queue, resume_queue
from orderup.engine.place import place_order
from orderup.engine.steer import cancel_operation
from orderup.sandbox.jira import Issue
from orderup.shops.bakery import shop
from orderup.shops.bakery.facts import facts_of_operations
from orderup.shops.bakery.plan import CREATE_ISSUE, plan_issue
from tests.serving import sqlite_url
from tests.shops.bakery.conftest import bake, order, read
from tests.shops.served import Served, serve_shop

SECRET = "a secret that Jira knows"
HOOK = "/hooks/jira"


async def run_the_batch(bakery: Served) -> None:
    """As at six in the morning."""
    operation = await place_order(bakery.house.engine, "bakery", plan_issue())
    await bakery.until_stands(operation.id, lambda now: now.status == "completed")


def words_of(node: Any) -> str:
    """All that stands in a document."""
    if isinstance(node, list):
        return "".join(map(words_of, node))
    inner = words_of(node.get("content", []))
    return str(node.get("text", "")) + inner + ("|" if node["type"].startswith("table") else "")


def issues_of(bakery: Served) -> Sequence[Issue]:
    return list(bakery.sandbox.jira.issues.values())


async def until_stands(bakery: Served, number: int, **expected: Any) -> dict[str, Any]:
    async def stands() -> dict[str, Any] | None:
        shown: dict[str, Any] = await read(bakery, f"/orders/{number}")
        return shown if all(shown[name] == value for name, value in expected.items()) else None

    return await bakery.until(stands)


async def test_a_day_has_one_issue_with_the_sums_of_all_its_orders(bakery: Served) -> None:
    await bake(bakery, name="Egg Cake", ingredients={"eggs": 3, "flour": 100.0})
    first = (await order(bakery)).json()["id"]
    gone = (await order(bakery, persons=100)).json()["id"]
    second = (await order(bakery, recipe="egg_cake", persons=1, quantity=1, extra_ingredients={})).json()["id"]
    await bakery.client.delete(f"{bakery.front}/orders/{gone}")
    await run_the_batch(bakery)
    [issue] = issues_of(bakery)
    assert issue.summary.startswith("Ingredients for 20")
    assert issue.due is not None
    said = words_of(issue.description)
    for row in ("chocolate|268|g|", "flour|168|g|", "eggs|11|pcs|", "peanuts|10|pcs|"):
        assert row in said
    assert f"2 orders: {first}, {second}" in said
    assert [(await read(bakery, f"/orders/{number}"))["issue"] for number in (first, gone, second)] == [
        issue.key,
        None,
        issue.key,
    ]
    await run_the_batch(bakery)
    assert len(issues_of(bakery)) == 1


async def test_a_day_without_orders_has_no_issue(bakery: Served) -> None:
    await run_the_batch(bakery)
    assert issues_of(bakery) == []
    assert bakery.sandbox.jira.asked["create_issue"] == 0


async def test_where_the_owner_wants_it_each_order_has_its_own(tmp_path: Path) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), bakery_daily_issue=False) as bakery:
        await bake(bakery)
        number = (await order(bakery)).json()["id"]
        shown = await until_stands(bakery, number, issue="BAKE-1")
        [issue] = issues_of(bakery)
        assert (issue.summary, shown["issue"]) == (f"Order #{number}", issue.key)
        assert "eggs|8|pcs|" in words_of(issue.description)
        await run_the_batch(bakery)
        assert len(issues_of(bakery)) == 1


@pytest.mark.parametrize(
    "switch",
    [
        {"body": "reset", "takes_effect": True},
        {"status": 500, "takes_effect": True},
        {"body": "garbage", "takes_effect": True},
        {"body": "reset"},
        {"status": 503},
        {"status": 429, "retry_after_seconds": 1},
    ],
    ids=["done-then-reset", "done-then-500", "done-then-garbage", "reset", "503", "429"],
)
async def test_nobody_knows_whether_it_was_made_and_it_is_made_once(tmp_path: Path, switch: dict[str, Any]) -> None:
    async with serve_shop(shop, sqlite_url(tmp_path), jira_search_seconds=4) as bakery:
        await bake(bakery)
        number = (await order(bakery)).json()["id"]
        bakery.sandbox.jira.delay_search(0.5)
        bakery.sandbox.jira.switch(route="create_issue", times=1, **switch)
        await run_the_batch(bakery)
        assert [issue.key for issue in issues_of(bakery)] == [(await read(bakery, f"/orders/{number}"))["issue"]]


async def test_a_token_that_jira_refuses_is_not_tried_again_and_again(one_bakery: Served) -> None:
    bakery = one_bakery
    await order(bakery)
    bakery.sandbox.jira.switch(status=401)
    operation = await place_order(bakery.house.engine, "bakery", plan_issue())
    await bakery.until_stands(operation.id, lambda now: now.tasks[1].status == "waiting")
    assert bakery.sandbox.jira.asked["create_issue"] == 1
    assert (await order(bakery)).status_code == 201


async def test_an_order_that_is_cancelled_after_its_batch_is_marked_in_the_issue(bakery: Served) -> None:
    numbers = [(await order(bakery)).json()["id"] for _ in range(3)]
    await run_the_batch(bakery)
    [issue] = issues_of(bakery)
    before = words_of(issue.description)
    await bakery.client.delete(f"{bakery.front}/orders/{numbers[1]}")

    async def marked() -> bool | None:
        return True if f"Cancelled since: order {numbers[1]}." in words_of(issue.description) else None

    await bakery.until(marked)
    assert words_of(issue.description).startswith(before)


async def test_orders_of_an_issue_that_staff_cancelled_are_in_the_next_one(bakery: Served) -> None:
    engine = bakery.house.engine
    number = (await order(bakery)).json()["id"]
    await pause_queue(engine, f"bakery/{CREATE_ISSUE}", by="ann")
    stopped = await place_order(engine, "bakery", plan_issue())
    await bakery.until_stands(stopped.id, lambda now: now.tasks[1].status == "pending")
    await cancel_operation(engine, stopped.id, reason="not today")
    await resume_queue(engine, f"bakery/{CREATE_ISSUE}")
    await run_the_batch(bakery)
    assert [issue.key for issue in issues_of(bakery)] == [(await read(bakery, f"/orders/{number}"))["issue"]]


async def test_staff_reads_what_an_operation_is_about(bakery: Served) -> None:
    number = (await order(bakery)).json()["id"]
    await run_the_batch(bakery)
    hired = {"firstName": "Jack", "lastName": "Harrot"}
    assert (await bakery.client.post(f"{bakery.front}/employees", json=hired)).status_code == 201

    def read_all(connection: ReadConnection) -> list[Mapping[str, Any]]:
        ids = [row[0] for row in connection.rows(select(operations.c.id).order_by(operations.c.id))]
        return list(facts_of_operations(connection, ids).values())

    about, issue, person = await bakery.house.database.read(read_all)
    assert about == {"Cake": "2 × Chocolate Cake for 4", "Order": number, "For": "Mr. Cakelover", "Issue": "BAKE-1"}
    assert (issue["Orders"], issue["Issue"], person) == (1, "BAKE-1", {"Employee": "Jack Harrot"})


# What Jira tells us


@pytest_asyncio.fixture
async def told_bakery(database_url: str) -> AsyncIterator[Served]:
    """Jira may send it webhooks."""
    async with serve_shop(shop, database_url, jira_webhook_secret=SECRET, jira_automation_secret="rule") as bakery:
        bakery.sandbox.jira.send_hooks(f"{bakery.front}{HOOK}", SECRET)
        await bake(bakery)
        await bake(bakery, name="Air Cake", ingredients={"air": 1.0})
        yield bakery


async def in_one_issue(bakery: Served) -> tuple[list[int], Issue]:
    """Two with flour, one of air, one of air with flour added."""
    wishes: list[dict[str, Any]] = [{}, {}, {"recipe": "air_cake"}, {"recipe": "air_cake"}]
    wishes[3]["extra_ingredients"] = {"Flour": 5.0}
    numbers = [(await order(bakery, **wish)).json()["id"] for wish in wishes]
    await run_the_batch(bakery)
    [issue] = issues_of(bakery)
    return numbers, issue


async def stand(bakery: Served, numbers: Sequence[int]) -> list[str]:
    return [(await read(bakery, f"/orders/{number}"))["status"] for number in numbers]


async def test_an_issue_closed_for_want_of_ingredients_cancels_its_orders_and_no_later_one(told_bakery: Served) -> None:
    bakery = told_bakery
    numbers, issue = await in_one_issue(bakery)
    await bakery.client.post(f"{bakery.front}/orders/{numbers[0]}/ready")
    later = (await order(bakery)).json()["id"]
    bakery.sandbox.jira.move(issue.key, labels=[*issue.labels, "missing-ingredients"])
    shown = await until_stands(bakery, numbers[3], status="cancelled")
    assert shown["reason"] == "ingredients are missing"
    assert await stand(bakery, [*numbers, later]) == ["ready", "cancelled", "cancelled", "cancelled", "ordered"]


async def test_one_missing_ingredient_cancels_those_that_need_it(told_bakery: Served) -> None:
    bakery = told_bakery
    numbers, issue = await in_one_issue(bakery)
    bakery.sandbox.jira.move(issue.key, labels=[*issue.labels, "missing-ingredients", "missing:flour"])
    await until_stands(bakery, numbers[3], status="cancelled")
    assert await stand(bakery, numbers) == ["cancelled", "cancelled", "ordered", "cancelled"]


@pytest.mark.parametrize(
    ("labels", "status"), [(["missing-ingredients"], "In Progress"), (["missing:flour"], "Done"), ([], "Done")]
)
async def test_an_issue_that_is_not_closed_for_that_cancels_nothing(
    told_bakery: Served, labels: list[str], status: str
) -> None:
    bakery = told_bakery
    numbers, issue = await in_one_issue(bakery)
    bakery.sandbox.jira.move(issue.key, labels=labels, status=status)
    answer = await bakery.client.post(
        f"{bakery.front}{HOOK}", json={"issueKey": issue.key}, headers={"X-Automation-Secret": "rule"}
    )
    assert (answer.status_code, answer.json()) == (202, {"issue": issue.key})

    async def judged() -> bool | None:
        found = (await bakery.client.get(f"{bakery.back}/api/operations?status=completed&limit=500")).json()
        return True if any(each["source"] == "jira" for each in found["operations"]) else None

    await bakery.until(judged)
    assert await stand(bakery, numbers) == ["ordered"] * 4


async def test_a_webhook_that_comes_again_is_judged_once(told_bakery: Served) -> None:
    bakery = told_bakery
    body = json.dumps({"issue": {"key": "BAKE-7"}}).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Hub-Signature": "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest(),
        "X-Atlassian-Webhook-Identifier": "7",
    }
    for _ in range(3):
        answer = await bakery.client.post(f"{bakery.front}{HOOK}", content=body, headers=headers)
        assert answer.status_code == 202, answer.text
    found = (await bakery.client.get(f"{bakery.back}/api/operations?limit=500")).json()["operations"]
    assert sum(each["source"] == "jira" for each in found) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Hub-Signature": "sha256=" + "0" * 64},
        {"X-Hub-Signature": "sha1=" + "0" * 40},
        {"X-Automation-Secret": "rules"},
        {"X-Automation-Secret": ""},
    ],
)
async def test_a_forged_hook_is_refused(told_bakery: Served, headers: dict[str, str]) -> None:
    answer = await told_bakery.client.post(f"{told_bakery.front}{HOOK}", json={"issueKey": "BAKE-1"}, headers=headers)
    assert answer.status_code == 401
    assert told_bakery.sandbox.jira.asked["read_issue"] == 0


async def test_without_a_secret_there_is_no_hook(one_bakery: Served) -> None:
    answer = await one_bakery.client.post(f"{one_bakery.front}{HOOK}", json={"issueKey": "BAKE-1"})
    assert answer.status_code == 404
