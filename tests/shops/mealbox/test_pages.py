"""The meal boxes' pages by HTTP, as a browser without JavaScript uses them."""

import re

import httpx2
import pytest

from orderup.shops.mealbox import pages
from tests.services.waiting import PATIENCE_SECONDS
from tests.shops.mealbox.conftest import GOOD, Kiosk
from tests.web.pages.reading import buttons, cell, row_with, words_of


@pytest.fixture
def patient_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page waits until the order is complete, on however busy a machine."""
    monkeypatch.setattr(pages, "PAGE_WAIT_SECONDS", PATIENCE_SECONDS)


async def submit(kiosk: Kiosk, **fields: str) -> httpx2.Response:
    """The form, as it was opened a moment before."""
    page = await kiosk.client.get(f"{kiosk.front}/")
    [key] = re.findall(r'<input type="hidden" name="key" value="(\w+)">', page.text)
    return await kiosk.client.post(f"{kiosk.front}/", data={**GOOD, "key": key, **fields})


async def ordered(kiosk: Kiosk, **fields: str) -> str:
    """The address of the tracker."""
    answer = await submit(kiosk, **fields)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def words_at(kiosk: Kiosk, address: str) -> str:
    page = await kiosk.client.get(address)
    assert page.status_code == 200, page.text
    return words_of(page.text)


@pytest.mark.usefixtures("patient_pages")
async def test_a_box_that_is_ordered_is_told_by_its_name_on_a_page_of_its_own(one_kiosk: Kiosk) -> None:
    words = await words_at(one_kiosk, await ordered(one_kiosk))
    assert "Classic Box" in words
    assert "Your order is complete" in words


async def test_the_form_sent_twice_orders_once(one_kiosk: Kiosk) -> None:
    addresses = [await ordered(one_kiosk, key="the-same") for _ in range(2)]
    assert addresses[0] == addresses[1]


@pytest.mark.usefixtures("patient_pages")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"user_id": "nobody"}, "There is no such user. Nothing was ordered."),
        ({"product_code": "nothing"}, "There is no such product. Nothing was ordered."),
        ({"product_code": " "}, "Please fill this in."),
    ],
    ids=["no such user", "no such product", "left empty"],
)
async def test_a_form_with_a_fault_comes_back_with_what_was_written_and_what_is_wrong(
    one_kiosk: Kiosk, fields: dict[str, str], said: str
) -> None:
    answer = await submit(one_kiosk, **fields)
    assert answer.status_code == 422
    assert said in words_of(answer.text)
    for value in {**GOOD, **fields}.values():
        assert f'value="{value}"' in answer.text
    assert (await one_kiosk.client.get(f"{one_kiosk.front}/orders")).json()["orders"] == []


async def test_an_order_that_goes_on_can_be_cancelled_on_its_page(one_kiosk: Kiosk) -> None:
    one_kiosk.sandbox.mealbox.products.switch("classic-box", body="hang")
    tracker = await ordered(one_kiosk)
    page = await one_kiosk.client.get(tracker)
    assert "Cancel the order" in buttons(page.text)
    cancelled = await one_kiosk.client.post(tracker.replace("/track/", "/cancel/"), data={})
    assert cancelled.status_code == 303, cancelled.text
    assert "Your order was cancelled" in await words_at(one_kiosk, tracker)


async def test_the_page_of_an_order_that_failed_says_why_in_plain_words(one_kiosk: Kiosk) -> None:
    placed = (await one_kiosk.order(product_code="nothing", prefer="respond-async")).json()
    await one_kiosk.follow(placed["id"], until="operation.errored")
    words = await words_at(one_kiosk, placed["links"]["self"].replace("/orders/", "/track/"))
    assert "could not be completed" in words
    assert "“There is no such product”" in words


async def test_staff_reads_what_was_ordered_and_how_it_goes_with_the_services(one_kiosk: Kiosk) -> None:
    one_kiosk.sandbox.mealbox.products.switch("broken-box", name="Broken Box", price=1, status=500)
    id = (await one_kiosk.order()).json()["id"]
    facts = await words_at(one_kiosk, f"{one_kiosk.back}/operations/{id}")
    for words in ("Box Classic Box", "For Ada Lovelace", f"User {GOOD['user_id']}", "Amount 9.99"):
        assert words in facts
    failing = (await one_kiosk.order(product_code="broken-box", prefer="respond-async")).json()["id"]
    await one_kiosk.follow(failing, until="task.retrying")
    services = await one_kiosk.client.get(f"{one_kiosk.back}/services")
    row = row_with(services.text, "product service")
    assert (cell(row, "State"), cell(row, "Last fault")) == ("alive", "answered 500")
    told = (await one_kiosk.client.get(f"{one_kiosk.back}/upstreams")).json()["upstreams"]
    assert [(each["name"], each["state"], each["last_error"]) for each in told] == [
        ("user service", "closed", None),
        ("product service", "closed", "answered 500"),
    ]


async def test_staff_is_led_from_the_queues_to_the_services(one_kiosk: Kiosk) -> None:
    page = (await one_kiosk.client.get(f"{one_kiosk.back}/queues")).text
    [address] = re.findall(r'<a href="([^"]+)">Services that it needs</a>', page)
    assert "user service" in await words_at(one_kiosk, f"{one_kiosk.back}{address}")
