"""The bakery in a real browser: customers on phones, staff and an admin at their desks."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from orderup.web.tokens import Role
from tests.journeys.browser.stage import Stage
from tests.journeys.browser.test_keyboard import tab_to
from tests.journeys.windows import PHONE

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOSTILE = "\"Ann\" 'O' <img src=x onerror=window.hacked=1> ليلى 🎂"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("bakery")) as stage:
        stage.cake("Chocolate Cake")
        yield stage


async def phone(stage: Stage, browser: Browser, address: str, **options: Any) -> Page:
    """A customer's, who agrees to whatever he is asked."""
    page = await (await stage.window(browser, None, viewport=PHONE, **options)).new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto(address)
    return page


async def desk(stage: Stage, browser: Browser, path: str, role: Role = Role.STAFF) -> Page:
    page = await (await stage.window(browser, role)).new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    await page.goto(f"{stage.server.back}/bakery/{path}")
    return page


def row(page: Page, text: str) -> Locator:
    return page.locator("tbody tr").filter(has_text=text)


async def fill_in(page: Page, **fields: str) -> None:
    """By words of their labels."""
    labels = {
        "eaters": "How many eat of each?",
        "cakes": "How many cakes?",
        "extra": "Anything extra?",
        "name": "Your name",
    }
    for field, text in fields.items():
        await page.get_by_label(labels[field]).fill(text)


async def number_of(tracker: Page) -> str:
    return await tracker.locator(".number-called strong").inner_text()


async def test_a_cake_is_ordered_baked_and_told_of_and_both_sides_see_it_happen(stage: Stage, browser: Browser) -> None:
    board = await desk(stage, browser, "board")
    await expect(board.locator("#connection")).to_have_text("Live")
    page = await phone(stage, browser, f"{stage.server.front}/bakery/")
    await page.get_by_role("link", name="Chocolate Cake").click()
    await expect(page.locator("#quantities")).to_contain_text("33.5 g")
    await fill_in(page, eaters="4", cakes="2", extra="peanuts 10", name="Ada Lovelace")
    await expect(page.locator("#quantities")).to_contain_text("For 8 eaters: 2 cakes for 4 each.")
    await page.get_by_role("button", name="Order").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("2 × Chocolate Cake")
    await expect(page.locator("#connection")).to_have_text("Live")
    number = await number_of(page)
    here = board.locator(f"#order-{number}")
    await expect(here).to_contain_text("Ada Lovelace")
    await expect(page.get_by_role("button", name="Cancel the order")).to_be_visible()
    one_order = await desk(stage, browser, f"order/{number}")
    await expect(one_order.locator("#led-to").get_by_role("link", name="BAKE-")).to_be_visible()
    await here.get_by_role("button", name="Mark ready").click()
    await expect(here).to_have_count(0)
    await expect(page.locator("#headline")).to_contain_text("Your cake is ready")
    await expect(page.locator("#announcer")).to_contain_text("Your cake is ready")
    await expect(page.get_by_role("button", name="Cancel the order")).to_have_count(0)
    await expect(one_order.locator("#head")).to_have_text("ready")
    await expect(one_order.locator("#led-to").get_by_role("link", name="Slack")).to_be_visible()
    await expect(one_order.get_by_role("button", name="Mark ready")).to_have_count(0)


async def test_quantities_follow_what_is_typed_and_nothing_is_sent_before_the_order(
    stage: Stage, browser: Browser
) -> None:
    page = await phone(stage, browser, f"{stage.server.front}/bakery/order/chocolate_cake")
    quantities = page.locator("#quantities")
    await expect(page.get_by_role("button", name="Work out the quantities")).to_be_hidden()
    await fill_in(page, name="Ann")
    extra = page.get_by_label("Anything extra?")
    await extra.press_sequentially("butter 12.5 g\nraisins")
    await expect(quantities).to_contain_text("Line 2: there is no amount.")
    await extra.press_sequentially(" 7 pcs")
    await expect(quantities).to_contain_text("raisins")
    await expect(quantities).to_contain_text("29 g")
    await fill_in(page, eaters="3")
    await expect(quantities).to_contain_text("100.5 g")
    await expect(page.locator("#announcer")).to_have_text("For 3 eaters.")
    assert await page.get_by_label("Your name").input_value() == "Ann"
    assert await extra.input_value() == "butter 12.5 g\nraisins 7 pcs"
    assert page.url.endswith("/order/chocolate_cake")


async def test_where_quantities_cannot_be_asked_for_by_themselves_a_button_asks(stage: Stage, browser: Browser) -> None:
    page = await phone(stage, browser, f"{stage.server.front}/bakery/order/chocolate_cake")

    async def fail(route: Route) -> None:
        await route.abort()

    await page.route("**/quantities", fail)
    await fill_in(page, eaters="3")
    button = page.get_by_role("button", name="Work out the quantities")
    await expect(button).to_be_visible()
    await page.unroute("**/quantities")
    await button.click()
    await expect(page.locator("#quantities")).to_contain_text("For 3 eaters.")


async def test_without_javascript_a_cake_is_ordered_too(stage: Stage, browser: Browser) -> None:
    address = f"{stage.server.front}/bakery/order/chocolate_cake"
    page = await phone(stage, browser, address, java_script_enabled=False)
    await fill_in(page, eaters="5")
    await page.get_by_role("button", name="Work out the quantities").click()
    await expect(page.locator("#quantities")).to_contain_text("For 5 eaters.")
    await fill_in(page, name="Ann")
    await page.get_by_role("button", name="Order").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Chocolate Cake")


async def test_what_is_wrong_stands_beside_its_field_and_what_was_written_stays(stage: Stage, browser: Browser) -> None:
    page = await phone(stage, browser, f"{stage.server.front}/bakery/order/chocolate_cake")
    await fill_in(page, eaters="many", extra="peanuts", name="Ann")
    await page.get_by_role("button", name="Order").click()
    await expect(page.get_by_role("alert")).to_have_text("Nothing was ordered yet.")
    eaters = page.get_by_label("How many eat of each?")
    await expect(eaters).to_have_attribute("aria-invalid", "true")
    await expect(eaters).to_have_accessible_description("Write a whole number from 1 to 10,000.")
    await expect(page.get_by_label("Your name")).to_have_value("Ann")
    await fill_in(page, eaters="2", extra="peanuts 3")
    await page.get_by_role("button", name="Order").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Chocolate Cake")


async def test_a_cancelled_order_leaves_the_board_and_leads_to_its_record(stage: Stage, browser: Browser) -> None:
    number, tracker = await asyncio.to_thread(stage.cake_order, "chocolate_cake")
    board = await desk(stage, browser, "board")
    await expect(board.locator(f"#order-{number}")).to_be_visible()
    cancelled = await desk(stage, browser, "board?status=cancelled")
    page = await phone(stage, browser, tracker)
    await page.get_by_role("button", name="Cancel the order").click()
    await expect(page.locator("#headline")).to_contain_text("Your order was cancelled")
    await expect(board.locator(f"#order-{number}")).to_have_count(0)
    record = cancelled.locator(f"#order-{number}").get_by_role("link", name="Document")
    await expect(record).to_be_visible()


async def test_staff_cancels_and_the_customer_is_told(stage: Stage, browser: Browser) -> None:
    number, tracker = await asyncio.to_thread(stage.cake_order, "chocolate_cake")
    page = await phone(stage, browser, tracker)
    await expect(page.locator("#connection")).to_have_text("Live")
    board = await desk(stage, browser, "board")
    await board.locator(f"#order-{number}").get_by_role("button", name="Cancel").click()
    await expect(board.locator(f"#order-{number}")).to_have_count(0)
    await expect(page.locator("#headline")).to_contain_text("Your order was cancelled")
    await expect(page.locator("#headline")).to_contain_text("“cancelled by ann”")


async def test_a_recipe_is_written_scaled_and_deleted(stage: Stage, browser: Browser) -> None:
    page = await desk(stage, browser, "recipes")
    await page.get_by_label("What is the cake called?").fill("Egg Cake")
    recipe = page.get_by_label("What goes into it, for one eater?")
    await recipe.fill("eggs 3 pcs\nflour 1 kg")
    await page.get_by_role("button", name="Write it").click()
    await expect(recipe).to_have_accessible_description(
        "A line for each ingredient: chocolate 33.5 g, or eggs 1 pcs. Line 2: the unit is g or pcs, not kg."
    )
    await recipe.fill("eggs 3 pcs\nflour 100.5 g")
    await page.get_by_role("button", name="Write it").click()
    customer = await phone(stage, browser, f"{stage.server.front}/bakery/")
    await expect(customer.get_by_role("link", name="Egg Cake")).to_be_visible()
    await page.get_by_role("link", name="Egg Cake").click()
    eaters = page.get_by_label("For how many eaters?")
    await eaters.fill("12")
    await expect(page.locator("#quantities")).to_contain_text("1206 g")
    await asyncio.to_thread(stage.cake_order, "chocolate_cake")  # something happens, and the page is asked for again
    await expect(page.locator("#quantities")).to_contain_text("36 pcs")
    assert page.url.endswith("?eaters=12")
    number, _ = await asyncio.to_thread(stage.cake_order, "egg_cake")
    await page.goto(f"{stage.server.back}/bakery/recipes")
    await page.get_by_role("button", name="Delete Egg Cake").click()
    await expect(page.get_by_role("alert")).to_contain_text("Orders of Egg Cake are open")
    await asyncio.to_thread(stage.bake, number)
    await page.get_by_role("button", name="Delete Egg Cake").click()
    await expect(page.get_by_role("link", name="Egg Cake")).to_have_count(0)


def add_to_github(stage: Stage, login: str) -> None:
    address = f"http://127.0.0.1:{stage.sandbox_port}/github/page/users"
    answer = stage.client.post(address, data={"login": login})
    assert answer.status_code < 400, answer.text


async def test_an_admin_hires_changes_and_fires(stage: Stage, browser: Browser) -> None:
    await asyncio.to_thread(add_to_github, stage, "jack-harrot")
    page = await desk(stage, browser, "people", Role.ADMIN)
    await page.get_by_label("First name").fill("Jack")
    await page.get_by_label("Last name").fill("Harrot")
    await page.get_by_label("Developer").check()
    await page.get_by_role("button", name="Hire").click()
    login = page.get_by_label("Login at GitHub")
    await expect(login).to_have_accessible_description("A developer needs a login at GitHub, to be invited by.")
    await login.fill("jack-harrot")
    await page.get_by_role("button", name="Hire").click()
    jack = row(page, "Jack Harrot")
    await expect(jack).to_contain_text("invited")
    await expect(jack).to_contain_text("in line")
    await jack.get_by_role("link", name="Change").click()
    await page.get_by_label("Developer").uncheck()
    await page.get_by_label("What else he may do").fill("keys")
    await page.get_by_role("button", name="Change").click()
    await expect(jack).to_contain_text("no access")
    await expect(jack).to_contain_text("keys")
    await jack.get_by_role("button", name="Fire").click()
    await expect(jack).to_have_count(0)


async def test_staff_that_is_no_admin_is_not_led_to_the_people(stage: Stage, browser: Browser) -> None:
    page = await desk(stage, browser, "board")
    places = page.get_by_role("navigation", name="Bakery")
    await expect(places.get_by_role("link", name="Recipes")).to_be_visible()
    await expect(places.get_by_role("link", name="Employees")).to_have_count(0)
    answer = await page.goto(f"{stage.server.back}/bakery/people")
    assert answer is not None
    assert answer.status == 403


async def test_a_cake_is_ordered_and_cancelled_by_the_keyboard_alone(stage: Stage, browser: Browser) -> None:
    page = await phone(stage, browser, f"{stage.server.front}/bakery/")
    await tab_to(page, "Chocolate Cake")
    await page.keyboard.press("Enter")
    await expect(page.get_by_label("How many eat of each?")).to_be_visible()
    await tab_to(page, "How many eat of each?")
    await page.keyboard.type("4")  # in place of what is there: it is chosen
    await tab_to(page, "Your name")
    await page.keyboard.type("Ann")
    await page.keyboard.press("Enter")
    await expect(page.locator("#headline")).to_be_visible()
    await tab_to(page, "Cancel the order")
    await page.keyboard.press("Enter")
    await expect(page.locator("#headline")).to_contain_text("Your order was cancelled")


async def test_names_are_shown_and_not_run(stage: Stage, browser: Browser) -> None:
    cake = await asyncio.to_thread(lambda: stage.cake(f"Cake of {HOSTILE}", {HOSTILE: 2.5}))
    wish = {"customer": HOSTILE, "extra_ingredients": {f"{HOSTILE} again": 1}}
    number, tracker = await asyncio.to_thread(lambda: stage.cake_order(cake, **wish))
    customer = await phone(stage, browser, tracker)
    staff = await desk(stage, browser, "board")
    front, back = f"{stage.server.front}/bakery", f"{stage.server.back}/bakery"
    for page, addresses in (
        (customer, (tracker, f"{front}/", f"{front}/order/{cake}")),
        (staff, (f"{back}/board", f"{back}/order/{number}", f"{back}/recipes", f"{back}/recipes/{cake}")),
    ):
        for address in addresses:
            await page.goto(address)
            assert HOSTILE in await page.locator("main").inner_text(), address
            assert await page.locator("main img").count() == 0, address
            assert await page.evaluate("window.hacked") is None, address
