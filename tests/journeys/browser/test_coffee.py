"""The coffee bar in a real browser: customers on phones, a barista at a tablet."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from playwright.async_api import Browser, Page, expect

from tests.journeys.browser.test_accessibility import WIDER, faults_of
from tests.journeys.browser.test_keyboard import tab_to
from tests.journeys.windows import PATIENCE_MS, TABLET
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess, sqlite_url

pytestmark = pytest.mark.asyncio(loop_scope="module")
NARROW = {"width": 360, "height": 640}
READY = "Ready: come and get your coffee"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("coffee")
    with ServerProcess("coffee", folder=folder, database_url=sqlite_url(folder)) as server:
        yield server.start()


class Phones:
    """Browsers of customers, each with a window of its own."""

    def __init__(self, browser: Browser, server: ServerProcess) -> None:
        self.browser, self.server = browser, server
        self.wrong = list[str]()

    async def open(self, address: str, *, size: dict[str, int] = NARROW, **options: object) -> Page:
        context = await self.browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        page = await context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda line: self.wrong.append(line.text) if line.type == "error" else None)
        await page.goto(address)
        return page

    async def order(self, **options: Any) -> Page:
        page = await self.open(f"{self.server.front}/", **options)
        await page.get_by_role("button", name="Order an americano").click()
        await expect(page.get_by_role("heading", name="Your americano")).to_be_visible()
        return page


@pytest.fixture
def phones(browser: Browser, server: ServerProcess) -> Iterator[Phones]:
    """Nothing goes wrong in any of them. Whoever is left in the line is served."""
    phones = Phones(browser, server)
    yield phones
    while (started := httpx2.get(f"{server.back}/start/", timeout=PATIENCE_SECONDS)).status_code == 200:
        httpx2.post(f"{server.back}/finish/", params=started.json(), timeout=PATIENCE_SECONDS)
    assert phones.wrong == []


def serve(server: ServerProcess) -> Callable[[], None]:
    """Start the next coffee; what is returned finishes it."""
    with httpx2.Client(timeout=PATIENCE_SECONDS) as client:
        started = client.get(f"{server.back}/start/", params={"barista": "ann", "wait": "10"})
    assert started.status_code == 200

    def finish() -> None:
        answer = httpx2.post(
            f"{server.back}/finish/", params={"order_id": started.json()["order_id"]}, timeout=PATIENCE_SECONDS
        )
        answer.raise_for_status()

    return finish


async def test_the_place_in_the_line_moves_until_the_coffee_is_ready_without_a_reload(
    server: ServerProcess, phones: Phones
) -> None:
    pages = [await phones.order() for _ in range(3)]
    last = pages[2]
    await last.evaluate("window.unloaded = false")
    headline = last.locator("#headline")
    await expect(headline).to_contain_text("2 are before you")
    await expect(last.locator("#ahead i")).to_have_count(2)
    serve(server)()
    await expect(headline).to_contain_text("1 is before you")
    await expect(pages[0].locator("#headline")).to_contain_text(READY)
    await expect(pages[0].get_by_role("link", name="Order another one")).to_be_visible()
    serve(server)()
    await expect(headline).to_contain_text("You are next")
    finish = serve(server)
    await expect(headline).to_contain_text("Your coffee is being brewed")
    await expect(last.locator("#announcer")).to_have_text("Your coffee is being brewed")
    finish()
    await expect(headline).to_contain_text(READY)
    await expect(last.locator("#announcer")).to_have_text(READY)
    await expect(last).to_have_title(f"{READY} · Your americano")
    assert await last.evaluate("window.unloaded") is False


async def test_who_asked_for_it_is_told_by_a_sound_and_a_notification(server: ServerProcess, phones: Phones) -> None:
    page = await phones.order(permissions=["notifications"])
    await page.evaluate(
        "() => { window.notices = []; window.Notification = class extends Notification {"
        " constructor(words, more) { super(words, more); window.notices.push(`${words}, ${more.body}`); } }; }"
    )
    for name in ("Tell me with a sound", "Tell me with a notification"):
        await page.get_by_role("button", name=name).click()
        await expect(page.get_by_role("button", name=name)).to_have_attribute("aria-pressed", "true")
    number = await page.locator(".number-called strong").inner_text()
    serve(server)()
    await expect(page.locator("#headline")).to_contain_text(READY)
    await expect(page.locator("html[data-sounded]")).to_have_count(1)
    assert await page.evaluate("window.notices") == [f"{READY}, Number {number}"]


async def test_who_asked_for_nothing_hears_nothing(server: ServerProcess, phones: Phones) -> None:
    page = await phones.order(permissions=["notifications"])
    await page.evaluate(
        "() => { window.made = 0; window.AudioContext = class { constructor() { window.made += 1; } }; }"
    )
    serve(server)()
    await expect(page.locator("#headline")).to_contain_text(READY)
    await expect(page.locator("#tell")).to_be_hidden()
    assert await page.evaluate("window.made") == 0


async def test_a_coffee_is_ordered_and_cancelled_by_the_keyboard_alone(phones: Phones) -> None:
    page = await phones.open(f"{phones.server.front}/")
    page.on("dialog", lambda dialog: dialog.accept())
    await tab_to(page, "Order an americano")
    await page.keyboard.press("Enter")
    await expect(page.locator("#headline")).to_contain_text("You are next")
    await tab_to(page, "Tell me with a sound")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Tell me with a sound")).to_have_attribute("aria-pressed", "true")
    await tab_to(page, "Cancel the order")
    await page.keyboard.press("Enter")
    await expect(page.locator("#headline")).to_contain_text("Your order has left the line")


async def test_everybody_can_use_the_pages_also_on_a_narrow_phone(server: ServerProcess, phones: Phones) -> None:
    page = await phones.open(f"{server.front}/")
    faults = [f"first page: {fault}" for fault in await faults_of(page)]
    await page.get_by_role("button", name="Order an americano").click()
    await expect(page.locator("#tell")).to_be_visible()
    await page.get_by_role("button", name="Tell me with a sound").click()
    faults += [f"in line: {fault}" for fault in await faults_of(page)]
    await page.emulate_media(color_scheme="dark")
    faults += [f"in line, dark: {fault}" for fault in await faults_of(page)]
    station = await phones.open(f"{server.back}/barista", size=TABLET)
    faults += [f"station: {fault}" for fault in await faults_of(station)]
    serve(server)()
    await expect(page.locator("#headline")).to_contain_text(READY)
    faults += [f"ready, dark: {fault}" for fault in await faults_of(page)]
    assert faults == []
    assert await page.evaluate(WIDER) <= 0


async def test_without_javascript_the_page_loads_itself_again(server: ServerProcess, phones: Phones) -> None:
    page = await phones.order(java_script_enabled=False)
    assert "You are next" in await page.locator("#headline").inner_text()
    assert await page.locator("noscript meta[http-equiv=refresh]").count() <= 1
    serve(server)()
    await expect(page.locator("#headline")).to_contain_text(READY)


async def test_a_barista_starts_two_and_finishes_both(server: ServerProcess, phones: Phones) -> None:
    customers = [await phones.order() for _ in range(2)]
    station = await phones.open(f"{server.back}/barista", size=TABLET)
    await expect(station.locator("#count")).to_contain_text("2 wait, the longest for")
    for held in (1, 2):
        await station.get_by_role("button", name="Take next").click()
        await expect(station.locator("#mine [data-state=running]")).to_have_count(held)
    for customer in customers:
        await expect(customer.locator("#headline")).to_contain_text("Your coffee is being brewed")
    await expect(station.locator("#count")).to_contain_text("nothing waits")
    numbers = [await each.locator(".number-called strong").inner_text() for each in customers]
    for number, customer in zip(numbers, customers, strict=True):
        card = station.locator("#mine .card").filter(has=station.get_by_text(number.lower(), exact=True))
        await card.get_by_role("button", name="Done").click()
        await expect(customer.locator("#headline")).to_contain_text(READY)
    await expect(station.locator("#mine [data-state=running]")).to_have_count(0)
    await expect(station.locator("#done li")).to_have_count(2)
