"""Stations in a real browser: tablets in a kitchen, each with a cook of its own, and a customer who watches."""

import re
from functools import partial
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Page, Request, expect

from orderup.db.tables import tasks
from tests.journeys.scene import QUICK, Scene, until
from tests.journeys.windows import PATIENCE_MS, PHONE, TABLET, Windows
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")

ORDER = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
DOUGH = "/station/pizza/make_dough?region=eu-west-3"
# A lease that a test can wait for.
SHORT = {**QUICK, "STATION_LEASE_SECONDS": "8"}


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


@pytest.fixture
async def server(scene: Scene) -> ServerProcess:
    return scene.server("pizza", environment=QUICK).start()


def order(server: ServerProcess) -> str:
    """The id of one that was approved."""
    id: str = (
        httpx2.post(f"{server.front}/pizzas", json=ORDER, timeout=PATIENCE_SECONDS).raise_for_status().json()["id"]
    )
    httpx2.post(f"{server.back}/api/rfas/{id}/approve", json={}, timeout=PATIENCE_SECONDS).raise_for_status()
    return id


async def tablet(windows: Windows, server: ServerProcess, cook: str, **options: object) -> Page:
    page = await windows.open(f"{server.back}/sign-in?next={DOUGH}", size=TABLET, **options)
    await page.get_by_label("Your name").fill(cook)
    await page.get_by_role("button", name="Go on").click()
    await page.goto(f"{server.back}{DOUGH}")
    return page


async def take(page: Page) -> str:
    """The number of the order."""
    held = page.locator("#mine [data-state=running]")
    before = await held.count()
    await page.get_by_role("button", name="Take next").click()
    await expect(held).to_have_count(before + 1)
    return await held.last.locator("b").inner_text()


def cancel(server: ServerProcess, id: str) -> None:
    httpx2.post(f"{server.back}/api/operations/{id}/cancel", timeout=PATIENCE_SECONDS).raise_for_status()


async def test_a_pizza_made_by_hand_moves_the_customers_tracker_to_its_end(
    server: ServerProcess, windows: Windows
) -> None:
    tracker = await windows.open(f"{server.front}/", size=PHONE)
    for label, text in (
        ("What do you call it?", "Margherita"),
        ("Your name", "Ada"),
        ("Where do you", "1 Harbour Lane"),
    ):
        await tracker.get_by_label(label).fill(text)
    await tracker.get_by_role("button", name="Order").click()
    page = await tablet(windows, server, "Ann")
    await expect(page.get_by_text("Nothing waits. The next task shows up here by itself.")).to_be_visible()
    staff = await windows.open(f"{server.back}/inbox")
    await staff.get_by_role("button", name="Approve").click()
    for kind, stage in (
        ("make_dough", "Preparing dough"),
        ("add_toppings", "Adding toppings"),
        ("bake_pizza", "Baking pizza"),
        ("deliver_pizza", "Delivering pizza"),
    ):
        await page.goto(f"{server.back}/station/pizza/{kind}?region=eu-west-3")
        await expect(page.locator("#waiting .card")).to_have_count(1)
        await take(page)
        await expect(tracker.locator("[data-state=now] .what")).to_have_text(stage, timeout=PATIENCE_MS)
        await page.get_by_role("button", name="Done").click()
        await expect(page.locator("#done .order")).to_have_count(1)
    await expect(tracker.locator("#headline")).to_contain_text("Delivered. Enjoy your pizza!", timeout=PATIENCE_MS)


async def test_two_tablets_take_two_tasks_and_what_is_handed_back_is_at_the_other(
    server: ServerProcess, windows: Windows
) -> None:
    ids = [order(server), order(server)]
    ann, bob = await tablet(windows, server, "Ann"), await tablet(windows, server, "Bob")
    numbers = [await take(ann), await take(bob)]
    assert [number.lower() for number in numbers] == [id[-4:] for id in ids]
    await expect(bob.get_by_text("Nothing waits.")).to_be_visible()
    await ann.get_by_role("button", name="Hand back").click()
    await expect(bob.locator("#waiting")).to_contain_text(numbers[0], ignore_case=True)
    await bob.get_by_label("Note").fill("A little dry.")
    await bob.get_by_role("button", name="Done").click()
    await expect(bob.locator("#done")).to_contain_text("“A little dry.”")
    assert await take(bob) == numbers[0]


async def test_what_comes_joins_at_the_end_and_what_is_typed_is_left_alone(
    server: ServerProcess, windows: Windows
) -> None:
    order(server)
    page = await tablet(windows, server, "Ann")
    await take(page)
    note = page.get_by_label("Note")
    await note.press_sequentially("Mind the ")
    button = page.get_by_role("button", name="Done")
    place = await button.bounding_box()
    numbers = [order(server)[-4:] for _ in range(3)]
    await expect(page.locator("#waiting b")).to_have_text([re.compile(number, re.IGNORECASE) for number in numbers])
    assert await button.bounding_box() == place
    await expect(note).to_be_focused()
    await note.press_sequentially("oven.")
    await expect(note).to_have_value("Mind the oven.")


async def test_a_page_that_is_open_keeps_what_it_has(scene: Scene, server: ServerProcess, windows: Windows) -> None:
    order(server)
    page = await tablet(windows, server, "Ann")
    await page.clock.install()
    await page.reload()
    await take(page)
    await expect(page.locator("#connection")).to_have_text("Live")
    for _ in range(2):
        [before] = leases(scene)
        async with page.expect_request(is_beat):
            await page.clock.fast_forward("03:00")  # more than a quarter of ten minutes
        await until(partial(has_longer_lease, scene, before), what="the lease is extended")
    await expect(page.locator("#mine [data-state=running]")).to_have_count(1)


def has_longer_lease(scene: Scene, than: int) -> bool:
    return leases(scene)[0] > than


def leases(scene: Scene) -> list[int]:
    """Until when what is held is held."""
    return [row.lease_until for row in scene.table(tasks) if row.lease_until]


async def test_a_tablet_that_is_cut_off_is_told_of_its_loss(scene: Scene, windows: Windows) -> None:
    server = scene.server("pizza", environment=SHORT).start()
    order(server)
    ann, bob = await tablet(windows, server, "Ann"), await tablet(windows, server, "Bob")
    number = await take(ann)
    await expect(bob.locator("#waiting")).not_to_contain_text(number, ignore_case=True, timeout=PATIENCE_MS)
    windows.foreseen.append("409")
    await ann.context.set_offline(True)
    await expect(bob.locator("#waiting")).to_contain_text(number, ignore_case=True, timeout=PATIENCE_MS)
    assert await take(bob) == number
    await ann.context.set_offline(False)
    lost = ann.locator("#mine [data-state=lost]")
    await expect(lost).to_contain_text("Taken back: your lease ended", timeout=2 * PATIENCE_MS)
    await expect(lost).to_contain_text("Bob@station is making it now")
    await ann.get_by_role("button", name="All right").click()
    await expect(ann.get_by_text("You have nothing.")).to_be_visible()


def is_beat(request: Request) -> bool:
    return request.method == "POST" and "verb=beat" in (request.post_data or "")


async def test_a_cancelled_order_is_struck_out_at_once_and_stays_until_it_was_seen(
    server: ServerProcess, windows: Windows
) -> None:
    id, other = order(server), order(server)
    page = await tablet(windows, server, "Ann")
    await take(page)
    await take(page)
    second = page.locator(f"#card-{other}-0")
    cancel(server, id)
    card = page.locator(f"#card-{id}-0")
    await expect(card).to_contain_text("Stop here, nobody waits for it any more.")
    assert "line-through" in await card.locator(".order").evaluate("order => getComputedStyle(order).textDecoration")
    await page.reload()
    await expect(card).to_be_visible()
    await card.get_by_role("button", name="All right").click()
    await expect(card).to_have_count(0)
    await expect(second.get_by_role("button", name="Done")).to_be_visible()


async def test_a_done_that_comes_too_late_is_told_what_happened_and_what_was_kept(
    server: ServerProcess, windows: Windows
) -> None:
    windows.foreseen.append("409")
    id = order(server)
    page = await tablet(windows, server, "Ann", java_script_enabled=False)
    await page.get_by_role("button", name="Take next").click()
    await page.get_by_label("Note").fill("Well risen.")
    cancel(server, id)
    await page.get_by_role("button", name="Done").click()
    await expect(page.get_by_role("heading", name="It is no longer yours")).to_be_visible()
    await expect(page.get_by_text("“Well risen.”")).to_be_visible()
    await page.get_by_role("link", name="Back to the station").click()
    await expect(page.locator("#mine")).to_contain_text("Cancelled")


async def test_without_javascript_a_button_keeps_the_lease_alive(
    scene: Scene, server: ServerProcess, windows: Windows
) -> None:
    order(server)
    page = await tablet(windows, server, "Ann", java_script_enabled=False)
    await page.get_by_role("button", name="Take next").click()
    await expect(page.get_by_text("and longer as long as this page is open")).to_be_hidden()
    [before] = leases(scene)
    async with page.expect_navigation():
        await page.get_by_role("button", name="Still at it").click()
    [after] = leases(scene)
    assert after > before


async def test_every_button_is_large_enough_for_a_glove(server: ServerProcess, windows: Windows) -> None:
    cancel_me, _ = order(server), order(server)
    page = await tablet(windows, server, "Ann")
    await take(page)
    await take(page)
    cancel(server, cancel_me)
    await expect(page.get_by_role("button", name="All right")).to_be_visible()
    for each in await page.locator("summary").all():
        await each.click()
    for width in (1024, 390, 320):
        await page.set_viewport_size({"width": width, "height": 780})
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        controls = page.locator(".station :is(button, summary, .button, input:not([type=hidden]))")
        boxes = [await each.bounding_box() for each in await controls.all() if await each.is_visible()]
        assert len(boxes) >= 9
        assert all(box is not None and box["height"] >= 48 and box["width"] >= 48 for box in boxes)
