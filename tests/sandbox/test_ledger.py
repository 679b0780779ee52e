import asyncio
from datetime import UTC, datetime, timedelta

import httpx2

from orderup.sandbox import Body, Ledger, Outcome, Sandbox
from orderup.sandbox.ledger import LONGEST_PATH, MOST_ARRIVALS, MOST_PATHS, OTHER_PATHS
from tests.services.waiting import PATIENCE_SECONDS


async def test_what_came_is_listed_with_what_it_was_answered(sandbox: Sandbox, mealbox: httpx2.AsyncClient) -> None:
    sandbox.mealbox.products.switch("classic-box", body="garbage", status=502)
    for path in ("/products/classic-box", "/users/7c11e1ce2741", "/users/nobody"):
        await mealbox.get(path)
    await mealbox.get("/users/7c11e1ce2741", headers={"Content-Type": "text/plain"})
    told = (await mealbox.get("/requests")).json()
    assert told["counts"] == {"/products/classic-box": 1, "/users/7c11e1ce2741": 2, "/users/nobody": 1}
    assert [{name: value for name, value in each.items() if name != "at"} for each in told["requests"]] == [
        {"method": "GET", "path": path, "status": status, "body": body, "outcome": "answered"}
        for path, status, body in [
            ("/products/classic-box", 502, "garbage"),
            ("/users/7c11e1ce2741", 200, "honest"),
            ("/users/nobody", 404, "honest"),
            ("/users/7c11e1ce2741", 415, "honest"),
        ]
    ]
    times = [datetime.fromisoformat(each["at"]) for each in told["requests"]]
    assert times == sorted(times)
    assert all(timedelta() <= datetime.now(UTC) - at < timedelta(hours=1) for at in times)


async def test_switches_and_the_ledger_itself_are_not_in_it(sandbox: Sandbox, mealbox: httpx2.AsyncClient) -> None:
    await mealbox.put("/products/classic-box/behaviour", json={})
    await mealbox.get("/requests")
    assert not sandbox.mealbox.ledger.arrivals


def test_it_keeps_the_last_thousand_and_counts_on() -> None:
    ledger = Ledger()
    for number in range(MOST_ARRIVALS + 5):
        ledger.note("GET", "/users/ann" if number < 5 else "/users/ben", body=Body.HONEST)
    assert {arrival.path for arrival in ledger.arrivals} == {"/users/ben"}
    assert len(ledger.arrivals) == MOST_ARRIVALS
    assert ledger.counts == {"/users/ann": 5, "/users/ben": MOST_ARRIVALS}


def test_paths_beyond_a_thousand_are_counted_together_and_long_ones_are_cut() -> None:
    ledger = Ledger()
    for number in range(MOST_PATHS + 3):
        ledger.note("GET", f"/users/{number}", body=Body.HONEST)
    ledger.note("GET", "/users/0", body=Body.HONEST)
    arrival = ledger.note("GET", "/" + "x" * LONGEST_PATH, body=Body.HONEST)
    assert ledger.counts[OTHER_PATHS] == 4
    assert ledger.counts["/users/0"] == 2
    assert len(ledger.counts) == MOST_PATHS + 1
    assert len(arrival.path) == LONGEST_PATH


async def test_a_fact_can_be_waited_for() -> None:
    ledger = Ledger()
    waiting = asyncio.create_task(ledger.until(lambda ledger: ledger.counts["/users/ann"] == 2))
    for _ in range(2):
        await asyncio.sleep(0)
        assert not waiting.done()
        arrival = ledger.note("GET", "/users/ann", body=Body.HONEST)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await waiting
        ledger.end(arrival, Outcome.ANSWERED)
        await ledger.until(lambda ledger: ledger.arrivals[-1].outcome is Outcome.ANSWERED)
