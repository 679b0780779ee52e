"""Pages of queues, workers and deliveries in a real browser: what no event tells shows up by itself, too."""

from pathlib import Path

import httpx2
import pytest
from playwright.async_api import expect

from tests.integrations.receiver import SECRET, Receiver
from tests.journeys.crowd import PIZZA
from tests.journeys.scene import Scene
from tests.journeys.windows import PATIENCE_MS, PHONE, Windows
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")

NARROW = {"width": 320, "height": 640}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """Pages are made alike on any database."""
    return sqlite_url(tmp_path)


async def test_a_worker_that_begins_and_a_queue_that_is_paused_elsewhere_show_up_by_themselves(
    scene: Scene, windows: Windows
) -> None:
    server = scene.server("pizza").start()
    workers = await windows.open(f"{server.back}/workers")
    queues = await windows.open(f"{server.back}/queues", size=PHONE)
    dough = queues.locator("#queue-pizza-make_dough")
    await expect(dough).to_contain_text("open")
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        ask = {"worker": "paris-1", "shop": "pizza", "tasks": ["make_dough"]}
        (await client.post(f"{server.back}/api/work/claim", json=ask)).raise_for_status()
        (await client.post(f"{server.back}/api/queues/pizza/make_dough/pause")).raise_for_status()
    await expect(workers.get_by_role("row", name="paris-1")).to_contain_text("alive", timeout=PATIENCE_MS)
    await expect(dough).to_contain_text("until somebody resumes it", timeout=PATIENCE_MS)
    await queues.get_by_role("button", name="Resume make_dough").click()
    await expect(dough).to_contain_text("open", timeout=PATIENCE_MS)


async def test_deliveries_show_up_and_are_sent_again_by_a_button(scene: Scene, windows: Windows) -> None:
    async with Receiver() as receiver, httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        webhook = {"WEBHOOK_URL": receiver.url, "WEBHOOK_SECRET": SECRET}
        server = scene.server("pizza", environment=webhook).start()
        page = await windows.open(f"{server.back}/deliveries", size=PHONE)
        await expect(page.locator("#deliveries")).to_contain_text("Whatever happens next", timeout=PATIENCE_MS)
        (await client.post(f"{server.front}/pizzas", json=PIZZA)).raise_for_status()
        row = page.locator("#deliveries tr").filter(has_text="operation.placed")
        await expect(row).to_contain_text("delivered", timeout=PATIENCE_MS)
        await expect(page.locator("#target-webhook")).to_contain_text("working", timeout=PATIENCE_MS)
        await row.get_by_role("button", name="Send again").click()
        await receiver.until(lambda: len(receiver.received) == 2)
        await expect(row).to_contain_text("delivered", timeout=PATIENCE_MS)
    assert len({each.id for each in receiver.received}) == 1


async def test_nothing_needs_scrolling_sideways_on_a_small_phone(scene: Scene, windows: Windows) -> None:
    webhook = {"WEBHOOK_URL": "http://127.0.0.1:1/a-rather-long-path", "WEBHOOK_SECRET": SECRET}
    server = scene.server("pizza", "tests.web.house:shop", environment=webhook).start()
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client:
        (await client.post(f"{server.front}/pizza/pizzas", json=PIZZA)).raise_for_status()
    for path in ("queues", "workers", "schedules", "deliveries"):
        page = await windows.open(f"{server.back}/{path}", size=NARROW)
        await expect(page.get_by_role("heading", level=1)).to_have_text(path.capitalize())
        assert await page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"], path
