"""Everything can be done without a mouse: where one is can be seen at every step, and nothing lies over it."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, Page, TimeoutError as PlaywrightTimeout, expect

from orderup.web.tokens import Role
from tests.journeys.browser.stage import PIZZA, STEPS, Stage
from tests.web.house import token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
MOST_STEPS = 60
READ_MS = 1200  # longer than live.js leaves to read what it has brought into view
# Where one is: its words; whether it has an outline, lies in the window, and is what one sees there.
HERE = """() => {
  const it = document.activeElement, box = it.getBoundingClientRect(), style = getComputedStyle(it);
  const there = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return {
    words: (it.labels?.[0]?.textContent ?? it.getAttribute('aria-label') ?? it.textContent).trim(),
    html: it.outerHTML.slice(0, 120),
    outlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    inside: box.width > 0 && box.top > -1 && box.bottom < innerHeight + 1
      && box.left > -1 && box.right < innerWidth + 1,
    uncovered: there !== null && (it.contains(there) || there.contains(it) || it.labels?.[0]?.contains(there) === true),
  };
}"""
IS_SEEN = f"() => {{ const here = ({HERE})(); return here.outlined && here.inside && here.uncovered }}"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("keyboard")) as stage:
        yield stage


async def tab_to(page: Page, words: str) -> None:
    """Step by step; each step can be seen."""
    for _ in range(MOST_STEPS):
        await page.keyboard.press("Tab")
        here = await page.evaluate(HERE)
        try:
            await page.wait_for_function(IS_SEEN)  # it may have to be moved into the window
        except PlaywrightTimeout:
            pytest.fail(f"Nobody sees that this has the focus: {await page.evaluate(HERE)}")
        if here["words"].startswith(words):
            return
    raise AssertionError(f"{words} is not reached by {MOST_STEPS} steps on {page.url}")


async def open_page(stage: Stage, browser: Browser, role: Role | None, path: str, *, width: int = 1280) -> Page:
    context = await stage.window(browser, role, viewport={"width": width, "height": 720})
    page = await context.new_page()
    await page.goto(path)
    return page


@pytest.mark.parametrize("width", [390, 1280])
async def test_a_pizza_is_ordered_and_cancelled(stage: Stage, browser: Browser, width: int) -> None:
    page = await open_page(stage, browser, None, f"{stage.server.front}/", width=width)
    page.on("dialog", lambda dialog: dialog.accept())
    await tab_to(page, "Pizzeria")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Order a pizza")).to_be_visible()
    await tab_to(page, "Basic")
    await page.keyboard.press("ArrowDown")
    for label, text in (("What do you", "Funghi"), ("Your name", PIZZA["customer"]), ("Where do you", "2 Quay")):
        await tab_to(page, label)
        await page.keyboard.type(text)
    await tab_to(page, "Order")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Funghi (standard)")).to_be_visible()
    await tab_to(page, "Cancel the order")
    await page.keyboard.press("Enter")
    await expect(page.locator("#headline")).to_contain_text("Your order was cancelled")


async def test_staff_signs_in_and_out(stage: Stage, browser: Browser) -> None:
    page = await open_page(stage, browser, None, f"{stage.server.back}/inbox")
    await tab_to(page, "Your token")
    await page.keyboard.insert_text(token_of(Role.STAFF, "ann"))
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Requests for approval")).to_be_visible()
    await tab_to(page, "Sign out")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    refused = await page.goto(f"{stage.server.back}/inbox")
    assert refused is not None
    assert refused.status == 401


# Presses A as soon as a page is there: sooner than anybody can have read it.
HASTE = """addEventListener("DOMContentLoaded", () => {
  document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "a", bubbles: true }));
})"""


async def test_a_key_that_is_held_or_comes_too_soon_approves_no_request_that_nobody_has_read(
    stage: Stage, browser: Browser
) -> None:
    first, second, third = [stage.order(name=name) for name in ("One", "Two", "Three")]
    page = await open_page(stage, browser, Role.STAFF, f"{stage.server.back}/inbox")
    await page.context.add_init_script(HASTE)
    await page.keyboard.press("j")
    await page.keyboard.down("a")
    await expect(page.locator(f"#rfa-{first}")).to_be_hidden()
    await expect(page.locator(f"#rfa-{second}")).to_be_focused()
    await page.wait_for_timeout(READ_MS)
    await page.keyboard.down("a")  # while it is down, it comes again and again
    await page.keyboard.up("a")
    await page.reload()
    await expect(page.locator(f"#rfa-{second}")).to_be_visible()
    await page.keyboard.press("j")
    await page.keyboard.press("a")
    await expect(page.locator(f"#rfa-{second}")).to_be_hidden()
    await expect(page.locator(f"#rfa-{third}")).to_be_focused()
    await page.wait_for_timeout(READ_MS)
    await page.keyboard.press("a")  # once it can have been read, it is decided
    await expect(page.locator(f"#rfa-{third}")).to_be_hidden()


async def test_requests_are_decided_by_letters_that_can_be_turned_off(stage: Stage, browser: Browser) -> None:
    first, second, third = [stage.order(name=name) for name in ("One", "Two", "Three")]
    page = await open_page(stage, browser, Role.STAFF, f"{stage.server.back}/inbox")
    await expect(page.locator(".keys")).to_contain_text("approve")
    await page.keyboard.press("a")  # nothing is chosen yet: nothing happens
    await page.keyboard.press("j")
    await expect(page.locator(f"#rfa-{first}")).to_be_focused()
    await page.keyboard.press("a")
    await expect(page.locator(f"#rfa-{first}")).to_be_hidden()
    await expect(page.locator(f"#rfa-{second}")).to_be_focused()  # on the page that comes then
    await page.keyboard.press("j")
    await page.keyboard.press("k")
    await expect(page.locator(f"#rfa-{second}")).to_be_focused()
    await page.keyboard.press("d")
    await page.keyboard.type("jad\n: no more basil")  # a text, not keys; and Enter decides nothing
    await tab_to(page, "Decline")
    await page.keyboard.press("Enter")
    await expect(page.locator(f"#rfa-{second}")).to_be_hidden()
    rfa = stage.call(Role.STAFF, "GET", f"{stage.server.back}/api/rfas/{second}")
    assert (rfa["status"], rfa["notes"]) == ("declined", "jad\r\n: no more basil")
    await tab_to(page, "Turn keys off")
    await page.keyboard.press("Enter")
    await expect(page.locator(".keys button")).to_have_text("Turn keys on")
    await page.keyboard.press("j")
    await page.keyboard.press("a")
    await page.reload()
    await expect(page.locator(".keys button")).to_have_text("Turn keys on")
    await expect(page.locator(f"#rfa-{third}")).to_be_visible()
    stage.staff(f"/api/rfas/{third}/decline")


async def test_an_operation_is_cancelled_and_failed_ones_are_retried(stage: Stage, browser: Browser) -> None:
    failed = stage.approve(stage.order())
    stage.work(stage.claim(STEPS[0]), "fail", error="the mixer is on fire", final=True)
    page = await open_page(stage, browser, Role.STAFF, f"{stage.server.back}/operations?status=errored")
    page.on("dialog", lambda dialog: dialog.accept())
    await tab_to(page, "Retry all")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Retry 1 operation?")).to_be_visible()
    await tab_to(page, "Retry them")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="1 retried")).to_be_visible()
    await page.goto(f"{stage.server.back}/operations/{failed}")
    await tab_to(page, "Cancel")
    await page.keyboard.press("Enter")
    await expect(page.locator("#head")).to_contain_text("cancelled")


async def test_nothing_moves_for_whoever_wants_it_still(stage: Stage, browser: Browser) -> None:
    tracker = stage.trackers[stage.order()]
    moving = "() => document.getAnimations().filter((each) => each.playState === 'running').length"
    for motion, count in (("no-preference", 1), ("reduce", 0)):
        page = await (await stage.window(browser, None, reduced_motion=motion)).new_page()
        await page.goto(tracker)
        await expect(page.locator("[data-state=now] .what")).to_be_visible()
        assert await page.evaluate(moving) == count
