"""The page at `/`, read and used as a browser without scripts does."""

from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from orderup.sandbox import Sandbox
from tests.services.waiting import PATIENCE_SECONDS


class Forms(HTMLParser):
    """What each form would send if its first button were pressed, by its action."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str]] = {}
        self.select = ""
        self.is_selected = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        match tag:
            case "form":
                self.fields = self.found.setdefault(given["action"], {})
            case "input" if given["type"] != "checkbox":
                self.fields[given["name"]] = given["value"]
            case "input" if "checked" in given:
                self.fields[given["name"]] = given.get("value", "on")
            case "select":
                self.select = given["name"]
            case "option" if "selected" in given and "value" in given:
                self.fields[self.select] = given.pop("value")
                given.pop("selected")
            case _:
                pass
        self.is_selected = tag == "option" and "selected" in given

    def handle_data(self, data: str) -> None:
        if self.is_selected:
            self.fields[self.select] = data
            self.is_selected = False


@pytest.fixture
async def visitor(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=sandbox.base_url, follow_redirects=True, timeout=PATIENCE_SECONDS) as client:
        yield client


def switches_of(sandbox: Sandbox) -> dict[str, Any]:
    return {
        f"/mealbox/{collection.name}/{id}/behaviour": entry.thing
        for collection in sandbox.mealbox.collections
        for id, entry in collection.entries.items()
    }


async def test_it_shows_the_third_party_its_switches_and_that_nothing_has_come(
    sandbox: Sandbox, visitor: httpx2.AsyncClient
) -> None:
    page = await visitor.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert set(Forms(page.text).found) == set(switches_of(sandbox))
    assert sandbox.mealbox.title.replace("'", "&#39;") in page.text
    assert "Nothing yet." in page.text
    assert (await visitor.get("/sandbox.css")).headers["content-type"].startswith("text/css")


async def test_it_shows_what_arrived_newest_first(visitor: httpx2.AsyncClient, mealbox: httpx2.AsyncClient) -> None:
    await mealbox.get("/products/veggie-box")
    await mealbox.get("/users/nobody")
    page = (await visitor.get("/")).text
    assert page.index("GET /users/nobody") < page.index("GET /products/veggie-box")
    assert "500, honest, answered" in page
    assert "404, honest, answered" in page


async def test_a_form_that_is_sent_as_it_is_shown_changes_nothing(
    sandbox: Sandbox, visitor: httpx2.AsyncClient
) -> None:
    sandbox.mealbox.products.switch("family-box", body="drip", alternate={"status": 503, "body": "empty"})
    sandbox.mealbox.products.switch("tiny-box", name="Tiny Box", price=1, alternate={"retry_after_seconds": 4})
    before = switches_of(sandbox)
    for action, fields in Forms((await visitor.get("/")).text).found.items():
        assert (await visitor.post(action, data=fields)).status_code == 200
    assert switches_of(sandbox) == before


async def test_a_form_switches_and_restores(
    sandbox: Sandbox, visitor: httpx2.AsyncClient, mealbox: httpx2.AsyncClient
) -> None:
    before = switches_of(sandbox)
    action = "/mealbox/products/classic-box/behaviour"
    fields = Forms((await visitor.get("/")).text).found[action]
    wanted = {**fields, "status": "503", "retry_after_seconds": "4", "alternate": "on"}
    page = await visitor.post(action, data=wanted)
    assert page.url.path == "/"
    assert Forms(page.text).found[action] == wanted
    assert [(await mealbox.get("/products/classic-box")).status_code for _ in range(2)] == [503, 200]
    page = await visitor.post(action, data={"restore": "yes"})
    assert Forms(page.text).found[action] == fields
    assert switches_of(sandbox) == before


@pytest.mark.parametrize(
    ("id", "fields", "status", "said"),
    [
        ("classic-box", {"status": "5"}, 422, "status: Input should be greater than or equal to 200"),
        ("classic-box", {"colour": "red"}, 422, "colour: "),
        ("no-box", {"status": "500"}, 404, "There is no product no-box."),
        ("classic-box", {f"field-{number}": "x" for number in range(50)}, 400, "not a form of the sandbox"),
    ],
)
async def test_what_is_wrong_with_a_form_is_told_on_the_page(
    sandbox: Sandbox, visitor: httpx2.AsyncClient, id: str, fields: dict[str, str], status: int, said: str
) -> None:
    before = switches_of(sandbox)
    page = await visitor.post(f"/mealbox/products/{id}/behaviour", data=fields)
    assert page.status_code == status
    assert said in page.text
    assert set(Forms(page.text).found) == set(switches_of(sandbox))
    assert switches_of(sandbox) == before


async def test_what_somebody_named_is_shown_as_it_is(sandbox: Sandbox, visitor: httpx2.AsyncClient) -> None:
    sandbox.mealbox.products.switch('"><script>x', name="<b>Bold</b>", price=1)
    page = (await visitor.get("/")).text
    assert "<script" not in page
    assert "<b>" not in page
    assert "/mealbox/products/%22%3E%3Cscript%3Ex/behaviour" in Forms(page).found


async def test_the_page_loads_nothing_from_elsewhere_and_runs_no_script(visitor: httpx2.AsyncClient) -> None:
    page = await visitor.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "//" not in page.text
