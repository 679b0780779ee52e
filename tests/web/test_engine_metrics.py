import asyncio
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from orderup.cli.assembly import House
from orderup.db.busy import MOST_COUNTED, MOST_QUEUES
from orderup.model.plan import Plan, PlannedTask
from orderup.settings import Settings
from orderup.web.engine_metrics import EngineMetrics
from orderup.web.metrics import Metrics
from orderup.web.tokens import Role
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.house import ASKED, CHAIN, DATABASES, client_of, open_test_house, place, settings_for, token_of

Figures = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(params=DATABASES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return settings_for(tmp_path)
    return settings_for(tmp_path, database_url=request.getfixturevalue("prepared_postgres"))


def read_figures(text: str) -> Figures:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scrape(house: House) -> Figures:
    async with client_of(house.back, token=token_of(Role.STAFF)) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200, answer.text
    return read_figures(answer.text)


def figure(figures: Figures, name: str, **labels: str) -> float | None:
    return figures.get((f"orderup_{name}", frozenset(labels.items())))


async def until(house: House, name: str, least: float, **labels: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (figure(await scrape(house), name, **labels) or 0) < least:  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(0.02)


async def claim(house: House, *kinds: str, worker: str = "w1") -> list[dict[str, str]]:
    body = {"worker": worker, "shop": "workshop", "tasks": kinds, "max": 10}
    async with client_of(house.back, token=token_of(Role.WORKER)) as client:
        answer = await client.post("/api/work/claim", json=body)
    assert answer.status_code == 200, answer.text
    tasks: list[dict[str, str]] = answer.json()["tasks"]
    return tasks


async def complete(house: House, task: dict[str, str]) -> None:
    async with client_of(house.back, token=token_of(Role.WORKER)) as client:
        answer = await client.post(f"/api/work/{task['id']}/complete", json={"token": task["token"]})
    assert answer.status_code == 200, answer.text


async def until_ended(house: House, count: int) -> None:
    """Wait until so many operations were seen to be completed."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for batch in house.engine.feed.follow(after=0):
            count -= sum(event.type == "operation.completed" for event in batch)
            if count <= 0:
                return


async def test_what_waits_and_runs_is_told_by_shop_and_state(settings: Settings) -> None:
    async with open_test_house(settings) as house:
        for _ in range(3):
            await place(house, ASKED)
        for _ in range(2):
            await place(house, CHAIN)
        [held, *_] = await claim(house, "saw")
        assert held["name"] == "saw"
        figures = await scrape(house)
    assert figure(figures, "operations", shop="workshop", status="pending") == 3
    assert figure(figures, "operations", shop="workshop", status="running") == 2
    assert figure(figures, "tasks", shop="workshop", status="running") == 2
    assert figure(figures, "tasks", shop="workshop", status="blocked") == 3 * 2 + 2 * 2
    assert figure(figures, "queue_tasks", queue="workshop/saw") == 0
    assert figure(figures, "database_up") == 1


async def test_a_queue_tells_how_many_wait_and_for_how_long(settings: Settings) -> None:
    async with open_test_house(settings) as house:
        for _ in range(4):
            await place(house)
        figures = await scrape(house)
        oldest = figure(figures, "queue_oldest_seconds", queue="workshop/saw")
        assert figure(figures, "queue_tasks", queue="workshop/saw") == 4
        assert oldest is not None
        assert 0 < oldest < PATIENCE_SECONDS
        assert figure(figures, "queue_oldest_seconds", queue="workshop/paint") == 0
        assert figure(figures, "queue_paused", queue="workshop/saw") == 0


async def test_what_ended_is_counted_from_the_log(settings: Settings) -> None:
    async with open_test_house(settings) as house:
        cancelled = await place(house)
        for _ in range(3):
            await place(house)
        async with client_of(house.back, token=token_of(Role.STAFF)) as client:
            assert (await client.post(f"/api/operations/{cancelled}/cancel")).status_code == 200
        await do(house, "saw", 3)
        await do(house, "paint", 3)
        await until_ended(house, 3)
        figures = await scrape(house)
    assert figure(figures, "operations_finished_total", shop="workshop", status="completed") == 3
    assert figure(figures, "operations_finished_total", shop="workshop", status="cancelled") == 1
    assert figure(figures, "tasks_finished_total", shop="workshop", status="completed") == 9
    assert figure(figures, "events_total", shop="workshop", type="operation.placed") == 4
    assert figure(figures, "feed_behind_events") == 0


async def do(house: House, kind: str, count: int) -> None:
    """Claim and complete so many tasks, waiting for those that are not there yet."""
    body = {"worker": "w1", "shop": "workshop", "tasks": [kind], "max": 10, "wait": 60}
    async with client_of(house.back, token=token_of(Role.WORKER)) as client:
        while count > 0:
            found = (await client.post("/api/work/claim", json=body)).json()["tasks"]
            assert found, f"{count} more did not come"
            for task in found:
                await complete(house, task)
            count -= len(found)


async def test_claims_and_commits_are_timed(settings: Settings) -> None:
    async with open_test_house(settings) as house:
        before = await scrape(house)
        for _ in range(5):
            await place(house)
        await claim(house, "saw")
        await until(house, "feed_lag_seconds_count", (figure(before, "feed_lag_seconds_count") or 0) + 1)
        after = await scrape(house)

    def grown(name: str) -> float:
        return (figure(after, name) or 0) - (figure(before, name) or 0)

    assert grown("claim_seconds_count") >= 1
    assert grown("claim_seconds_sum") > 0
    assert grown("commit_seconds_count") >= 6
    assert grown("commit_seconds_sum") > 0
    assert grown("commit_items_sum") >= 6


async def test_a_worker_that_asked_lately_is_alive(settings: Settings) -> None:
    async with open_test_house(settings) as house:
        await claim(house, "saw", worker="bench-1")
        await until(house, "workers", 1, kind="remote", shop="workshop")
        await until(house, "workers", 1, kind="local", shop="")


async def test_the_event_loops_lag_is_measured(tmp_path: Path) -> None:
    async with open_test_house(settings_for(tmp_path)) as house:
        await until(house, "event_loop_lag_seconds_count", 1)


async def test_however_many_ask_the_database_is_asked_once(tmp_path: Path) -> None:
    async with open_test_house(settings_for(tmp_path)) as house, asyncio.TaskGroup() as group:
        metrics = Metrics()
        figures = EngineMetrics(house.engine, metrics, patience=timedelta(minutes=1), fresh=timedelta(hours=1))
        running = group.create_task(figures.run())
        await place(house)
        await asyncio.gather(*(figures.refresh() for _ in range(50)))
        await place(house)
        await figures.refresh()
        shown = read_figures(generate_latest(metrics.registry).decode())
        running.cancel()
    assert figure(shown, "operations", shop="workshop", status="running") == 1


async def test_while_the_database_is_away_the_rest_is_told_without_it(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with open_test_house(settings) as house:
        metrics = Metrics()
        figures = EngineMetrics(house.engine, metrics, patience=timedelta(milliseconds=100))
        running = asyncio.create_task(figures.run())
        await place(house)
        try:
            damage(tmp_path / "orderup.db")
            text, _ = await metrics.read()
        finally:
            running.cancel()
    told = read_figures(text.decode())
    assert figure(told, "database_up") == 0
    assert figure(told, "commit_seconds_count") is not None
    assert not [name for name, _ in told if name in {"orderup_operations", "orderup_queue_tasks", "orderup_workers"}]


def damage(path: Path) -> None:
    """Overwrite a database, but for the header that says what it is."""
    os.truncate(path.with_name(f"{path.name}-wal"), 0)
    with path.open("r+b") as file:
        size = file.seek(100, os.SEEK_END) - 100
        file.seek(100)
        file.write(b"\xff" * (size - 100))


async def test_a_scrape_under_load_is_answered_and_stays_small(settings: Settings) -> None:
    async with open_test_house(settings) as house:
        loading = asyncio.create_task(load(house, 1_500))
        sizes = []
        async with client_of(house.back, token=token_of(Role.STAFF)) as client, asyncio.timeout(PATIENCE_SECONDS):
            while not loading.done():
                answer = await client.get("/metrics")
                assert answer.status_code == 200
                sizes.append(len(answer.content))
        await loading
    assert len(sizes) >= 3
    assert max(sizes) < 100_000


async def load(house: House, count: int) -> None:
    async def one() -> None:
        await place(house)

    await asyncio.gather(*(one() for _ in range(count)))
    for kind in ("saw", "paint"):
        await do(house, kind, 40)


async def test_live_figures_stop_counting_at_their_bound(settings: Settings) -> None:
    plan = Plan([PlannedTask("saw")])
    async with open_test_house(settings) as house:
        await asyncio.gather(*(place(house, plan) for _ in range(MOST_COUNTED + 50)))
        figures = await scrape(house)
    assert figure(figures, "operations", shop="workshop", status="running") == MOST_COUNTED
    assert figure(figures, "queue_tasks", queue="workshop/saw") == MOST_COUNTED
    assert figure(figures, "tasks", shop="workshop", status="pending") == MOST_COUNTED


async def test_regions_that_plans_make_up_do_not_make_metrics_grow(settings: Settings) -> None:
    plans = [Plan([PlannedTask("saw", region=f"region-{number}")]) for number in range(MOST_QUEUES + 50)]
    async with open_test_house(settings) as house:
        await asyncio.gather(*(place(house, plan) for plan in plans))
        figures = await scrape(house)
    queues = [name for name, _ in figures if name == "orderup_queue_tasks"]
    assert len(queues) <= MOST_QUEUES + len(house.engine.kinds["workshop"])


async def test_metrics_are_for_staff_and_the_metrics_token(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, metrics_token=SecretStr("count-me"), worker_token=SecretStr("work-work"))
    async with open_test_house(settings) as house:

        async def status(token: str | None) -> int:
            async with client_of(house.back, token=token) as client:
                return (await client.get("/metrics")).status_code

        assert await status("count-me") == 200
        assert await status(token_of(Role.STAFF)) == 200
        assert await status(token_of(Role.ADMIN)) == 200
        assert await status(token_of(Role.WORKER)) == 403
        assert await status(token_of(Role.CUSTOMER)) == 403
        assert await status("work-work") == 403
        assert await status("count-you") == 401
        assert await status(None) == 401
        async with client_of(house.front, token="count-me") as client:
            assert (await client.get("/metrics")).status_code == 404
        async with client_of(house.back, token="count-me") as client:
            assert (await client.get("/api/operations")).status_code == 401
