"""The bakery's pages by HTTP, as a browser without JavaScript uses them."""

import re
from collections.abc import Mapping, Sequence
from html import unescape
from itertools import product

import httpx2

from orderup.engine.place import place_order
from orderup.shops.bakery.plan import plan_issue, plan_judgement
from tests.shops.bakery.conftest import bake, order, read
from tests.shops.served import Served
from tests.web.pages.reading import buttons, cell, row_with, words_of

FILLED: Mapping[str, str] = {"persons": "4", "quantity": "2", "extras": "peanuts 10", "customer": "Mr. Cakelover"}
HOSTILE = "\"quoted\" 'it' <b>bold</b> & {{ 7*7 }} ليلى 🎂"
LINK = r'<a (?:class="[^"]*" )?href="([^"]*)"[^>]*>(.*?)</a>'
RIGHT_TO_LEFT, LINE_BREAK = "\u202e", "\n"


async def open_page(bakery: Served, address: str, *, code: int = 200) -> str:
    """`address`: of the front if it is a path; or a whole one."""
    url = address if address.startswith("http") else f"{bakery.front}{address}"
    answer = await bakery.client.get(url)
    assert answer.status_code == code, answer.text
    return answer.text


async def words_at(bakery: Served, address: str) -> str:
    return words_of(await open_page(bakery, address))


async def staff_page(bakery: Served, path: str) -> str:
    return await open_page(bakery, f"{bakery.back}{path}")


async def send(bakery: Served, path: str, fields: Mapping[str, str], *, code: int = 303) -> httpx2.Response:
    """A form of the front, or of the back, if it is a whole address."""
    url = path if path.startswith("http") else f"{bakery.front}{path}"
    answer = await bakery.client.post(url, data=dict(fields))
    assert answer.status_code == code, answer.text
    return answer


def quantities_of(page: str) -> dict[str, str]:
    [table] = re.findall(r'<table class="quantities">(.*?)</table>', page, re.DOTALL)
    rows = re.findall(r'<tr><td>(.*?)</td><td class="number">(.*?)</td></tr>', table, re.DOTALL)
    return {words_of(name): words_of(amount) for name, amount in rows}


def faults_of(page: str, field: str) -> str:
    """What is said beside a field of a form."""
    found = re.findall(
        rf'<(p|div) class="error" id="{field}-error">(.*?)</\1>\s*(?:<input|\s*<textarea)', page, re.DOTALL
    )
    return words_of(found[0][1]) if found else ""


def part_of(page: str, id: str) -> str:
    """What stands from the element of this id on."""
    return page[page.index(f'id="{id}"') :]


def links_in(part: str) -> dict[str, str]:
    """Addresses by words."""
    return {words_of(text): unescape(to) for to, text in re.findall(LINK, part, re.DOTALL)}


async def follow_link(bakery: Served, link: str) -> str:
    """What is there, at whoever stands in."""
    answer = await bakery.client.get(link, follow_redirects=True)
    assert answer.status_code == 200, link
    return answer.text


async def collect(bakery: Served) -> int:
    """As at six in the morning: the operation that makes the issue."""
    operation = await place_order(bakery.house.engine, "bakery", plan_issue())
    await bakery.until_stands(operation.id, lambda now: now.status == "completed")
    return operation.id


async def until_it_says(bakery: Served, address: str, words: str) -> str:
    """The page, once it does."""

    async def look() -> str | None:
        page = await open_page(bakery, address)
        return page if words in words_of(page) else None

    return await bakery.until(look)


# Customers


async def test_the_window_shows_each_cake_with_its_first_ingredients(one_bakery: Served) -> None:
    await bake(one_bakery, name="Egg Cake", ingredients={"eggs": 3})
    page = await open_page(one_bakery, "/")
    links = links_in(page)
    assert links["Egg Cake with eggs"] == "/order/egg_cake"
    [chocolate] = [words for words, to in links.items() if to == "/order/chocolate_cake"]
    assert chocolate.startswith("Chocolate Cake with chocolate")
    assert chocolate.endswith("and 1 more")


async def test_the_window_is_empty_without_recipes(one_bakery: Served) -> None:
    await one_bakery.client.delete(f"{one_bakery.front}/cakes/chocolate_cake")
    assert "There are no cakes today" in await words_at(one_bakery, "/")


async def test_the_page_of_a_cake_shows_its_recipe_for_one(one_bakery: Served) -> None:
    page = await open_page(one_bakery, "/order/chocolate_cake")
    assert quantities_of(page) == {
        "chocolate": "33.5 g",
        "butter": "16.5 g",
        "flour": "8.5 g",
        "sugar": "16.5 g",
        "eggs": "1 pcs",
    }
    assert "For 1 eater." in words_of(page)


async def test_of_a_cake_that_is_not_there_a_page_says_so(one_bakery: Served) -> None:
    await open_page(one_bakery, "/order/no_cake", code=404)
    await send(one_bakery, "/order/no_cake", FILLED, code=404)


async def test_quantities_are_worked_out_and_nothing_that_was_written_is_lost(one_bakery: Served) -> None:
    written = {**FILLED, "email": "mr@example.com", "extras": "peanuts 10\nbutter 12.5 g"}
    page = (await send(one_bakery, "/order/chocolate_cake/quantities", written, code=200)).text
    assert quantities_of(page) == {
        "chocolate": "268 g",
        "butter": "144.5 g",
        "flour": "68 g",
        "sugar": "132 g",
        "eggs": "8 pcs",
        "peanuts": "10 pcs",
    }
    assert "For 8 eaters: 2 cakes for 4 each." in words_of(page)
    for value in ("4", "2", "Mr. Cakelover", "mr@example.com"):
        assert f'value="{value}"' in page
    assert "peanuts 10\nbutter 12.5 g</textarea>" in page
    assert (await read(one_bakery, "/orders"))["orders"] == []


async def test_quantities_are_worked_out_for_whoever_has_not_said_who_he_is(one_bakery: Served) -> None:
    page = (await send(one_bakery, "/order/chocolate_cake/quantities", {"persons": "3"}, code=200)).text
    assert quantities_of(page)["eggs"] == "3 pcs"
    assert "Please fill this in" not in page


WRONG_ORDERS = [
    ("persons", "", "Please fill this in."),
    ("persons", "four", "Write a whole number from 1 to 10,000."),
    ("persons", "0", "Write a whole number from 1 to 10,000."),
    ("persons", "10001", "Write a whole number from 1 to 10,000."),
    ("quantity", "1.5", "Write a whole number from 1 to 10,000."),
    ("extras", "eggs 1 pcs\npeanuts", "Line 2: there is no amount. Write it after the name: chocolate 33.5 g"),
    ("customer", " ", "Please fill this in."),
    ("customer", "…", "Nothing in this name can be spelled with letters and digits. Give it some."),
    ("email", "not mine", "This is no address that mail can be sent to. Leave it empty if you have none."),
    ("email", "a@b.example, c@d.example", "This is no address that mail can be sent to."),
]


async def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_ordered(one_bakery: Served) -> None:
    for field, text, said in WRONG_ORDERS:
        written = {**FILLED, "email": "mr@example.com", field: text}
        page = (await send(one_bakery, "/order/chocolate_cake", written, code=422)).text
        assert faults_of(page, field).startswith(said), (field, text)
        assert "Nothing was ordered yet." in words_of(page)
        for name in ("persons", "quantity", "customer", "email"):
            assert f'value="{written[name]}"' in page
        assert f"{written['extras']}</textarea>" in page
    assert (await read(one_bakery, "/orders"))["orders"] == []


async def ordered(bakery: Served, **fields: str) -> str:
    """The address of the tracker of a new order, placed by the form."""
    answer = await send(bakery, "/order/chocolate_cake", {**FILLED, **fields})
    return str(answer.headers["location"])


async def test_an_order_by_the_form_is_the_one_that_was_filled_in(one_bakery: Served) -> None:
    tracker = await ordered(one_bakery, email=" mr@example.com ", extras="peanuts 10\nbutter 12.5 g\n")
    [placed] = (await read(one_bakery, "/orders"))["orders"]
    told = {name: placed[name] for name in ("customer", "email", "recipe", "persons", "quantity", "extra_ingredients")}
    assert told == {
        "customer": "Mr. Cakelover",
        "email": "mr@example.com",
        "recipe": "chocolate_cake",
        "persons": 4,
        "quantity": 2,
        "extra_ingredients": {"peanuts": 10, "butter": 12.5},
    }
    page = await open_page(one_bakery, tracker)
    words = words_of(page)
    assert "2 × Chocolate Cake" in words
    assert f"Your number {placed['id']}" in words
    assert quantities_of(page)["chocolate"] == "268 g"
    assert "Cancel the order" in buttons(page)


async def test_the_form_sent_twice_orders_once(one_bakery: Served) -> None:
    page = await open_page(one_bakery, "/order/chocolate_cake")
    [key] = re.findall(r'<input type="hidden" name="key" value="(\w+)">', page)
    assert await ordered(one_bakery, key=key) == await ordered(one_bakery, key=key)
    assert len((await read(one_bakery, "/orders"))["orders"]) == 1
    await ordered(one_bakery, key=f"{key}x")
    assert len((await read(one_bakery, "/orders"))["orders"]) == 2


async def test_the_form_sent_again_with_something_else_in_it_is_told_in_a_customers_words(one_bakery: Served) -> None:
    await send(one_bakery, "/order/chocolate_cake", {**FILLED, "key": "mine"})
    refused = await send(one_bakery, "/order/chocolate_cake", {**FILLED, "key": "mine", "persons": "5"}, code=422)
    assert "This form was sent already, with something else in it" in words_of(refused.text)
    assert "Idempotency-Key" not in refused.text


async def test_the_key_of_a_form_stays_while_it_is_filled_in(one_bakery: Served) -> None:
    for path, code in (("/order/chocolate_cake/quantities", 200), ("/order/chocolate_cake", 422)):
        page = (await send(one_bakery, path, {**FILLED, "key": "mine", "customer": "…"}, code=code)).text
        assert '<input type="hidden" name="key" value="mine">' in page


async def test_an_order_is_cancelled_on_its_page_until_it_is_ready(one_bakery: Served) -> None:
    first, second = await ordered(one_bakery), await ordered(one_bakery)
    await send(one_bakery, first.replace("/track/", "/cancel/"), {})
    assert "Your order was cancelled" in await words_at(one_bakery, first)
    await one_bakery.client.post(f"{one_bakery.front}/orders/2/ready")
    page = await open_page(one_bakery, second)
    assert "Cancel the order" not in buttons(page)
    refused = await send(one_bakery, second.replace("/track/", "/cancel/"), {}, code=409)
    assert "it cannot be cancelled any more" in words_of(refused.text)


async def test_a_customer_reads_that_ingredients_are_missing(one_bakery: Served) -> None:
    tracker = await ordered(one_bakery)
    await collect(one_bakery)
    [issue] = one_bakery.sandbox.jira.issues.values()
    one_bakery.sandbox.jira.move(issue.key, labels=[*issue.labels, "missing-ingredients"])
    await place_order(one_bakery.house.engine, "bakery", plan_judgement(issue.key))
    page = await until_it_says(one_bakery, tracker, "Your order was cancelled")
    assert "“ingredients are missing”" in words_of(page)


async def test_names_are_shown_as_text_wherever_they_stand(one_bakery: Served) -> None:
    for number, name in enumerate((HOSTILE, f"Ann{LINE_BREAK}Bea", f"Ann{RIGHT_TO_LEFT}ysatnaf"), start=1):
        cake = (await bake(one_bakery, name=f"Cake of {name}", ingredients={name: 1.5, "eggs": 1})).json()["id"]
        placed = await send(one_bakery, f"/order/{cake}", {**FILLED, "customer": name, "extras": ""})
        tracker = placed.headers["location"]
        shown = name.replace(LINE_BREAK, " ").replace(RIGHT_TO_LEFT, "")
        back = one_bakery.back
        paths = ("board", f"order/{number}", "recipes", f"recipes/{cake}")
        for address in ("/", f"/order/{cake}", tracker, *(f"{back}/{path}" for path in paths)):
            page = await open_page(one_bakery, address)
            assert shown in re.sub(r"\s+", " ", unescape(re.sub(r"</?bdi>", "", page))), address
            assert "<b>bold" not in page, address
            assert RIGHT_TO_LEFT not in page, address


# The orders, for staff


async def test_the_board_shows_what_waits_to_be_baked_the_oldest_first(one_bakery: Served) -> None:
    for customer in ("Ann", "Bob", "Cas"):
        await order(one_bakery, customer=customer)
    await one_bakery.client.post(f"{one_bakery.front}/orders/2/ready")
    page = await staff_page(one_bakery, "/board")
    assert re.findall(r'<tr id="order-(\d+)">', page) == ["1", "3"]
    row = row_with(page, 'id="order-1"')
    assert cell(row, "Cake") == "2 × Chocolate Cake for 4 each"
    assert cell(row, "For") == "Ann"
    assert cell(row, "Status") == "ordered"
    assert buttons(row) == ["Mark ready", "Cancel"]


async def test_the_station_says_what_is_to_be_baked_and_not_for_whom(one_bakery: Served) -> None:
    await ordered(one_bakery, extras="peanuts 10\nbutter 12.5 g\n")
    words = words_of(await staff_page(one_bakery, "/station/bakery/bake"))
    assert "2 × chocolate cake for 4" in words
    assert "peanuts 10 pcs, butter 12.5 g" in words
    assert "Cakelover" not in words


async def test_the_board_shows_those_of_one_status_that_stands_in_its_address(one_bakery: Served) -> None:
    for customer in ("Ann", "Bob", "Cas", "Dan"):
        await order(one_bakery, customer=customer)
    await one_bakery.client.post(f"{one_bakery.front}/orders/2/ready")
    await one_bakery.client.delete(f"{one_bakery.front}/orders/3")
    shown = {}
    for status in ("ordered", "ready", "cancelled", "failed", "all"):
        page = await staff_page(one_bakery, f"/board?status={status}")
        shown[status] = re.findall(r'<tr id="order-(\d+)">', page)
    assert shown == {
        "ordered": ["1", "4"],
        "ready": ["2"],
        "cancelled": ["3"],
        "failed": [],
        "all": ["4", "3", "2", "1"],
    }


async def test_a_long_board_has_several_pages(one_bakery: Served) -> None:
    for _ in range(51):
        await order(one_bakery)
    for status, more, last in (("ordered", "Later ones", "51"), ("all", "Older ones", "1")):
        page = await staff_page(one_bakery, f"/board?status={status}")
        assert len(re.findall(r'<tr id="order-(\d+)">', page)) == 50
        rest = await staff_page(one_bakery, f"/board{links_in(page)[more]}")
        assert re.findall(r'<tr id="order-(\d+)">', rest) == [last]
        assert more not in links_in(rest)


async def test_staff_marks_a_cake_ready_once_and_its_customer_is_told(one_bakery: Served) -> None:
    await order(one_bakery, customer="Ada Lovelace")
    board = await staff_page(one_bakery, "/board?status=all")
    answer = await one_bakery.client.post(
        f"{one_bakery.back}/order/1", data={"verb": "ready", "then": "board", "status": "all"}
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/board?status=all")
    assert "Mark ready" in buttons(board)
    again = await send(one_bakery, f"{one_bakery.back}/order/1", {"verb": "ready"}, code=409)
    assert "ready already" in words_of(again.text)
    page = await until_it_says(one_bakery, f"{one_bakery.back}/order/1", "Message Slack D0")
    [message] = one_bakery.sandbox.slack.messages
    assert message.ts in words_of(page)
    assert links_in(page)["Slack"] == f"{one_bakery.sandbox.base_url}/slack/app_redirect?channel={channel_in(page)}"
    assert "Order 1 is ready" in await follow_link(one_bakery, links_in(page)["Slack"])
    assert buttons(page) == []


def channel_in(page: str) -> str:
    return str(re.findall(r'data-copy="(D\w+) ', page)[0])


async def test_of_a_mail_the_page_shows_its_id(one_bakery: Served) -> None:
    await order(one_bakery, customer="Nobody Onslack", email="nobody@example.com")
    await send(one_bakery, f"{one_bakery.back}/order/1", {"verb": "ready"})
    await until_it_says(one_bakery, f"{one_bakery.back}/order/1", "Message Mail <order-1-ready.")
    row = row_with(await staff_page(one_bakery, "/board?status=ready"), 'id="order-1"')
    assert cell(row, "Led to") == "Message Mail"
    assert len(one_bakery.sandbox.smtp.messages) == 1


async def test_staff_cancels_and_is_led_to_the_record_and_what_made_it(one_bakery: Served) -> None:
    await order(one_bakery)
    answer = await send(one_bakery, f"{one_bakery.back}/order/1", {"verb": "cancel"})
    assert answer.headers["location"] == "/order/1"
    page = await until_it_says(one_bakery, f"{one_bakery.back}/order/1", "Record of its cancellation")
    assert "cancelled by local" in words_of(page)
    links = links_in(part_of(page, "led-to"))
    assert "open_document" in await words_at(one_bakery, f"{one_bakery.back}{links['what followed upon it']}")
    assert "operation.cancelled" in await words_at(one_bakery, f"{one_bakery.back}{links['the order itself']}")
    assert "[Chocolate Cake]" in await follow_link(one_bakery, links["Record of its cancellation"])
    assert (await read(one_bakery, "/orders/1"))["reason"] == "cancelled by local"


async def test_what_is_ready_is_not_cancelled(one_bakery: Served) -> None:
    await order(one_bakery)
    await send(one_bakery, f"{one_bakery.back}/order/1", {"verb": "ready"})
    refused = await send(one_bakery, f"{one_bakery.back}/order/1", {"verb": "cancel"}, code=409)
    assert "it cannot be cancelled any more" in words_of(refused.text)


async def test_an_order_leads_to_its_issue_and_the_issue_to_all_that_it_orders(one_bakery: Served) -> None:
    for _ in range(3):
        await order(one_bakery)
    await send(one_bakery, f"{one_bakery.back}/order/2", {"verb": "cancel"})
    assert "2 orders wait for the next issue." in words_of(await staff_page(one_bakery, "/issues"))
    await collect(one_bakery)
    await send(one_bakery, f"{one_bakery.back}/order/3", {"verb": "cancel"})
    [issue] = one_bakery.sandbox.jira.issues.values()
    page = await staff_page(one_bakery, "/order/1")
    links = links_in(part_of(page, "led-to"))
    assert links[issue.key] == f"{one_bakery.sandbox.base_url}/jira/browse/{issue.key}"
    assert issue.summary in await follow_link(one_bakery, links[issue.key])
    listed = await staff_page(one_bakery, "/issues")
    assert "0 orders wait for the next issue." in words_of(listed)
    row = row_with(listed, f">{issue.key}<")
    told = {label: cell(row, label) for label in ("Issue", "Day", "Orders", "What it orders")}
    wanted = f"Ingredients for {told['Day']}"
    assert told == {"Issue": issue.key, "Day": told["Day"], "Orders": "2", "What it orders": wanted}
    whole = await staff_page(one_bakery, links["what it orders"])
    assert links_in(row)[wanted] == links["what it orders"]
    assert "1, 3" in words_of(whole)
    assert "Cancelled since 3" in words_of(whole)
    assert quantities_of(whole)["chocolate"] == "536 g"
    assert quantities_of(whole)["peanuts"] == "20 pcs"


async def test_of_what_is_not_there_a_page_says_so(one_bakery: Served) -> None:
    for path in ("order/7", "order/x", "issues/0000000000000", "issues/x", "recipes/none", "people/7"):
        page = await open_page(one_bakery, f"{one_bakery.back}/{path}", code=404)
        assert "There is no" in words_of(page), path


# The recipes, for staff

RECIPE = {"name": "Egg Cake", "ingredients": "eggs 3 pcs\nflour 100.5 g\n"}


async def test_a_recipe_is_written_and_stands_in_the_window(one_bakery: Served) -> None:
    await send(one_bakery, f"{one_bakery.back}/recipes", RECIPE)
    written = await read(one_bakery, "/cakes/egg_cake")
    assert written["ingredients"] == {"eggs": 3, "flour": 100.5}
    assert "Egg Cake" in words_of(await staff_page(one_bakery, "/recipes"))
    assert "Egg Cake" in await words_at(one_bakery, "/")


WRONG_RECIPES: Sequence[tuple[Mapping[str, str], str, str]] = [
    ({"name": " "}, "name", "Nothing in this name"),
    ({"name": "Chocolate Cake"}, "name", "There is a cake chocolate_cake already."),
    ({"ingredients": ""}, "ingredients", "Write at least one ingredient."),
    (
        {"ingredients": "eggs 3 pcs\nflour 1 kg\nsalt"},
        "ingredients",
        "Line 2: the unit is g or pcs, not kg. Line 3:",
    ),
]


async def test_what_is_wrong_with_a_recipe_is_said_beside_it(one_bakery: Served) -> None:
    for fields, field, said in WRONG_RECIPES:
        written = {**RECIPE, **fields}
        code = 409 if "already" in said else 422
        page = (await send(one_bakery, f"{one_bakery.back}/recipes", written, code=code)).text
        assert faults_of(page, field).startswith(said), fields
        assert f'value="{written["name"]}"' in page
        assert f"\n{written['ingredients']}</textarea>" in page
    assert len((await read(one_bakery, "/cakes"))["cakes"]) == 1


async def test_a_recipe_is_scaled(one_bakery: Served) -> None:
    page = await staff_page(one_bakery, "/recipes/chocolate_cake?eaters=12")
    assert quantities_of(page)["chocolate"] == "402 g"
    assert "For 12 eaters." in words_of(page)
    wrong = await open_page(one_bakery, f"{one_bakery.back}/recipes/chocolate_cake?eaters=many", code=422)
    assert faults_of(wrong, "eaters") == "Write a whole number from 1 to 10,000."
    assert 'value="many"' in wrong


async def test_a_recipe_is_deleted_unless_an_order_of_it_is_open(one_bakery: Served) -> None:
    await order(one_bakery)
    delete = f"{one_bakery.back}/recipes/chocolate_cake/delete"
    refused = await send(one_bakery, delete, {}, code=409)
    assert "Orders of Chocolate Cake are open" in words_of(refused.text)
    assert "Write a recipe" in words_of(refused.text)
    await send(one_bakery, f"{one_bakery.back}/order/1", {"verb": "cancel"})
    row = row_with(await staff_page(one_bakery, "/recipes"), 'id="cake-chocolate_cake"')
    assert buttons(row) == ["Delete"]
    await send(one_bakery, delete, {})
    assert (await read(one_bakery, "/cakes"))["cakes"] == []
    assert "There is no recipe yet." in words_of(await staff_page(one_bakery, "/recipes"))


async def test_staff_reads_how_it_goes_with_the_third_parties(one_bakery: Served) -> None:
    page = await staff_page(one_bakery, "/services")
    names = ("Jira", "Slack", "mail server", "Google Drive", "Google Docs", "GitHub")
    assert {cell(row_with(page, f"<strong>{name}</strong>"), "State") for name in names} == {"alive"}


async def test_staff_is_led_to_all_of_these_pages(one_bakery: Served) -> None:
    page = await staff_page(one_bakery, "/queues")
    led = {words: to for words, to in links_in(page).items() if to in {"/board", "/recipes", "/issues", "/services"}}
    assert led == {"Orders": "/board", "Recipes": "/recipes", "Issues": "/issues", "Services": "/services"}
    board = await staff_page(one_bakery, "/board")
    assert {"Orders", "Recipes", "Issues", "Services", "Employees"} <= links_in(board).keys()


# Those who work there, for admins

JACK = {"first_name": "Jack", "last_name": "Harrot", "github": "jharrot", "developer": "yes", "others": "cashier, keys"}


async def test_somebody_is_hired_and_invited(one_bakery: Served) -> None:
    one_bakery.sandbox.github.add_user("jharrot")
    await send(one_bakery, f"{one_bakery.back}/people", JACK)
    [jack] = (await read(one_bakery, "/employees"))["employees"]
    told = {name: jack[name] for name in ("firstName", "lastName", "github", "permissions")}
    assert told == {
        "firstName": "Jack",
        "lastName": "Harrot",
        "github": "jharrot",
        "permissions": {"developer": True, "cashier": True, "keys": True},
    }
    page = await until_it_says(one_bakery, f"{one_bakery.back}/people", "invited in line")
    row = row_with(page, 'id="employee-1"')
    assert (cell(row, "Name"), cell(row, "May"), cell(row, "Login")) == (
        "Jack Harrot",
        "developer, cashier, keys",
        "jharrot",
    )


async def test_the_form_sent_twice_hires_once(one_bakery: Served) -> None:
    page = await staff_page(one_bakery, "/people")
    [key] = re.findall(r'<input type="hidden" name="key" value="(\w+)">', page)
    for _ in range(2):
        await send(one_bakery, f"{one_bakery.back}/people", {**JACK, "key": key})
    assert len((await read(one_bakery, "/employees"))["employees"]) == 1


async def test_what_went_wrong_at_github_stands_beside_whom_it_is_about(one_bakery: Served) -> None:
    await send(one_bakery, f"{one_bakery.back}/people", JACK)
    page = await until_it_says(one_bakery, f"{one_bakery.back}/people", "failed")
    assert "GitHub has no user jharrot" in cell(row_with(page, 'id="employee-1"'), "At GitHub")
    assert "GitHub has no user jharrot" in words_of(await staff_page(one_bakery, "/people/1"))


WRONG_PEOPLE: Sequence[tuple[Mapping[str, str], str, str]] = [
    ({"first_name": " "}, "first_name", "Please fill this in."),
    ({"last_name": "x" * 101}, "last_name", "String should have at most 100 characters"),
    ({"github": ""}, "github", "A developer needs a login at GitHub"),
    ({"github": "-jack-"}, "github", "This is no login at GitHub"),
    ({"others": "may sweep"}, "others", "Permissions are words"),
]


async def test_what_is_wrong_with_a_form_about_somebody_is_said_beside_it(one_bakery: Served) -> None:
    await send(one_bakery, f"{one_bakery.back}/people", JACK)
    for (fields, field, said), path in product(WRONG_PEOPLE, ("/people", "/people/1")):
        written = {**JACK, **fields}
        page = (await send(one_bakery, f"{one_bakery.back}{path}", written, code=422)).text
        assert faults_of(page, field).startswith(said), (path, fields)
        for name in ("first_name", "last_name", "github", "others"):
            assert f'value="{written[name]}"' in page
        assert "checked" in page
    [jack] = (await read(one_bakery, "/employees"))["employees"]
    assert (jack["firstName"], jack["github"]) == ("Jack", "jharrot")


async def test_somebody_is_changed_and_keeps_what_he_was_refused(one_bakery: Served) -> None:
    body = {"firstName": "Ann", "lastName": "Baker", "permissions": {"oven": True, "safe": False}}
    await one_bakery.client.post(f"{one_bakery.front}/employees", json=body)
    page = await staff_page(one_bakery, "/people/1")
    assert 'value="oven"' in page
    assert "checked" not in page
    await send(
        one_bakery, f"{one_bakery.back}/people/1", {"first_name": "Anna", "last_name": "Baker", "others": "keys"}
    )
    [anna] = (await read(one_bakery, "/employees"))["employees"]
    assert (anna["firstName"], anna["permissions"]) == ("Anna", {"safe": False, "keys": True})


async def test_somebody_is_fired(one_bakery: Served) -> None:
    await send(one_bakery, f"{one_bakery.back}/people", {**JACK, "developer": "", "github": ""})
    page = await staff_page(one_bakery, "/people")
    assert "Fire" in buttons(row_with(page, 'id="employee-1"'))
    await send(one_bakery, f"{one_bakery.back}/people/1/fire", {})
    assert (await read(one_bakery, "/employees"))["employees"] == []
    await send(one_bakery, f"{one_bakery.back}/people/1/fire", {}, code=404)


# Words


async def test_every_word_of_these_pages_can_be_translated(one_bakery: Served) -> None:
    """Said in a language of capitals, with what people wrote in small letters, they hold no word of English."""
    await one_bakery.client.delete(f"{one_bakery.front}/cakes/chocolate_cake")
    await bake(one_bakery, name="1", ingredients={str(number): 1.5 for number in range(6)})
    tracker = (await send(one_bakery, "/order/1", {**FILLED, "customer": "2", "extras": ""})).headers["location"]
    await order(one_bakery, customer="3", recipe="1", email="4@5.67")
    await collect(one_bakery)
    await send(one_bakery, f"{one_bakery.back}/people", {"first_name": "8", "last_name": "9", "others": ""})
    assert tracker
    for app in (one_bakery.house.front, one_bakery.house.back):
        app.state.site.environment.install_gettext_callables(shout, shout_many, newstyle=True)
    back = one_bakery.back
    addresses = ["/", "/order/1", *(f"{back}/{path}" for path in STAFF_PAGES)]
    for address in addresses:
        page = await open_page(one_bakery, address)
        assert untranslated(page) == [], address


STAFF_PAGES = ("board", "order/1", "recipes", "recipes/1?eaters=3", "issues", "people", "people/1")
# Times, units, names of others, and what the sandbox calls an issue.
SAME_EVERYWHERE = re.compile(r"\b(\d+ (s|g|pcs|min)|pcs|BAKE-\d+|GitHub|\d+ \w+ \d\d:\d\d UTC|id|local)\b")


def shout(text: str) -> str:
    return re.sub(r"%\(\w+\)s|[^%]", lambda found: found[0] if len(found[0]) > 1 else found[0].upper(), text)


def shout_many(one: str, many: str, count: int) -> str:
    return shout(one if count == 1 else many)


def untranslated(page: str) -> list[str]:
    without_ids = re.sub(r"<code.*?</code>", "", page, flags=re.DOTALL)
    return re.findall(r"[a-z]{2,}", SAME_EVERYWHERE.sub("", words_of(without_ids.partition("</main>")[0])))
