"""The pages by HTTP, as a browser without JavaScript uses them: ordering, following, deciding, signing in."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import httpx2
import pytest

from orderup.cli.assembly import House
from orderup.cli.shops import load_shops
from orderup.web.auth import utc_now
from orderup.web.tokens import Role, mint_token
from tests.web.house import ASKED, SECRET, client_of, open_test_house, place, settings_for, token_of, workshop

ORDER = {"tier": "premium", "name": "Tartufo", "customer": "Ada", "delivery_address": "1 Harbour Lane"}
ORIGIN = {"Origin": "http://localhost:8001"}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_test_house(settings_for(tmp_path), shops=[*load_shops(["pizza"]), workshop()]) as house:
        yield house


@pytest.fixture
async def front(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(house.front) as client:
        yield client


@pytest.fixture
async def back(house: House) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(house.back) as client:
        yield client


async def signed_in(back: httpx2.AsyncClient, token: str | None = None) -> httpx2.Response:
    return await back.post("/sign-in", data={"token": token or token_of(Role.STAFF, "ann"), "next": "/inbox"})


def hidden(page: str, name: str) -> str:
    [value] = set(re.findall(rf'<input type="hidden" name="{name}" value="([^"]*)">', page))
    return str(value)


def words_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page.partition("<main")[2]))


# Customers


@pytest.mark.parametrize("address", ["/pizza/", "/pizza/nothing"])
async def test_over_a_page_stands_the_name_of_the_shop_and_the_way_to_the_others(
    front: httpx2.AsyncClient, address: str
) -> None:
    text = (await front.get(address, headers={"accept": "text/html"})).text
    assert '<a class="brand" href="/pizza/">Pizzeria</a>' in text
    assert '<a href="/">All shops</a>' in text


async def test_over_pages_of_no_shop_stands_whose_they_are(house: House) -> None:
    for app in (house.front, house.back):
        async with client_of(app) as client:
            assert (
                '<a class="brand" href="/">orderup</a>'
                in (await client.get("/nowhere", headers={"accept": "text/html"})).text
            )


async def test_a_shop_that_is_alone_knows_no_others(tmp_path: Path) -> None:
    shops = load_shops(["pizza"])
    async with open_test_house(settings_for(tmp_path), shops=shops) as alone, client_of(alone.front) as client:
        text = (await client.get("/")).text
    assert '<a class="brand" href="/">Pizzeria</a>' in text
    assert "All shops" not in text


async def test_from_the_first_page_to_the_tracker_it_takes_links_and_a_form(front: httpx2.AsyncClient) -> None:
    home = await front.get("/")
    assert 'href="/pizza/"' in home.text
    menu = await front.get("/pizza/")
    answer = await front.post("/pizza/", data={**ORDER, "key": hidden(menu.text, "key")})
    assert answer.status_code == 303
    tracker = await front.get(answer.headers["location"])
    assert tracker.status_code == 200
    assert "Tartufo (premium)" in tracker.text
    assert "Waiting for approval" in words_of(tracker.text)
    assert ORDER["delivery_address"] not in tracker.text


async def test_a_form_that_is_sent_twice_orders_once(front: httpx2.AsyncClient) -> None:
    key = hidden((await front.get("/pizza/")).text, "key")
    first, second = [await front.post("/pizza/", data={**ORDER, "key": key}) for _ in range(2)]
    assert first.headers["location"] == second.headers["location"]


async def test_what_is_missing_is_said_beside_its_field_and_the_rest_is_kept(front: httpx2.AsyncClient) -> None:
    answer = await front.post("/pizza/", data={**ORDER, "name": " ", "customer": '"><script>alert(1)</script>'})
    assert answer.status_code == 422
    assert 'id="name-error"' in answer.text
    assert 'value="1 Harbour Lane"' in answer.text
    assert "<script>alert" not in answer.text


async def test_without_its_key_an_order_is_nobodys(front: httpx2.AsyncClient) -> None:
    address = (await front.post("/pizza/", data=ORDER)).headers["location"]
    assert (await front.get(address.partition("?")[0])).status_code == 401
    assert (await front.get(address[:-3] + "abc")).status_code == 404


async def test_a_customer_cancels_on_the_tracker(front: httpx2.AsyncClient) -> None:
    address = (await front.post("/pizza/", data=ORDER)).headers["location"]
    [cancel] = re.findall(r'action="([^"]*/cancel/[^"]*)"', (await front.get(address)).text)
    assert (await front.post(cancel)).status_code == 303
    tracker = words_of((await front.get(address)).text)
    assert "Your order was cancelled" in tracker
    assert "Cancel the order" not in tracker
    assert "Delivering" not in tracker
    assert "Look again" not in tracker
    assert '<a class="button" href="/pizza/">Order another one</a>' in (await front.get(address)).text


async def test_how_far_the_log_is_stands_only_on_a_page_that_is_kept_true(
    front: httpx2.AsyncClient, back: httpx2.AsyncClient
) -> None:
    tracker = (await front.post("/pizza/", data=ORDER)).headers["location"]
    assert re.search(r'<body data-seq="\d+" data-live="', (await front.get(tracker)).text)
    for client, address in ((front, "/"), (front, "/pizza/"), (front, tracker[:-3] + "abc"), (back, "/operations")):
        page = await client.get(address)
        assert "<body>" in page.text, page.text
        assert "data-seq" not in page.text


async def test_all_of_the_tracker_that_an_event_may_change_is_kept_true(front: httpx2.AsyncClient) -> None:
    tracker = (await front.get((await front.post("/pizza/", data=ORDER)).headers["location"])).text
    assert {"title", "headline", "stages", "history", "cancel"} <= set(re.findall(r'id="(\w+)" data-swap', tracker))


@pytest.mark.parametrize("macro", ["field", "area"])
def test_the_attributes_of_a_field_stand_apart(house: House, macro: str) -> None:
    template = f"{{% import 'macros.html' as ui %}}{{{{ ui.{macro}(**said) }}}}"
    environment = house.front.state.site.environment
    texts = {
        "hint": "h",
        "maxlength": 9,
        "required": False,
        **({"inputmode": "numeric", "error": "e"} if macro == "field" else {"errors": ["e"]}),
    }
    for left_out in ((), *((name,) for name in texts), *combinations(texts, 2), *combinations(texts, 3)):
        said = {name: value for name, value in texts.items() if name not in left_out}
        [tag] = re.findall(
            r"<(?:input|textarea)[^>]*>",
            environment.from_string(template).render(said={"name": "n", "label": "l", **said}),
        )
        assert not re.search(r'"[^\s>="]+="|required[^\s>]', tag), tag


# Staff


async def test_whoever_has_not_signed_in_is_asked_to_in_place(back: httpx2.AsyncClient) -> None:
    asked = await back.get("/operations?status=errored")
    assert asked.status_code == 401
    assert hidden(asked.text, "next") == "/operations?status=errored"
    answer = await back.post("/sign-in", data={"token": token_of(Role.STAFF), "next": hidden(asked.text, "next")})
    assert answer.headers["location"] == "/operations?status=errored"
    assert (await back.get("/operations?status=errored")).status_code == 200


async def test_the_token_is_kept_where_no_script_and_no_other_site_gets_it(back: httpx2.AsyncClient) -> None:
    cookie = (await signed_in(back)).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


@pytest.mark.parametrize("wrong", ["", "nonsense", "expired", "customer's"])
async def test_a_token_that_does_not_count_opens_nothing(back: httpx2.AsyncClient, wrong: str) -> None:
    tokens = {
        "expired": mint_token(SECRET, Role.STAFF, "ann", now=utc_now() - timedelta(days=40)).text,
        "customer's": token_of(Role.CUSTOMER),
    }
    answer = await back.post("/sign-in", data={"token": tokens.get(wrong, wrong), "next": "/inbox"})
    assert answer.status_code == (303 if wrong == "customer's" else 401)
    assert (await back.get("/inbox")).status_code == (403 if wrong == "customer's" else 401)


@pytest.mark.parametrize("next", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
async def test_signing_in_leads_to_our_own_pages_only(back: httpx2.AsyncClient, next: str) -> None:
    answer = await back.post("/sign-in", data={"token": token_of(Role.STAFF), "next": next})
    assert answer.headers["location"] == "/"


async def test_staff_approves_and_declines_in_the_inbox(house: House, back: httpx2.AsyncClient) -> None:
    await signed_in(back)
    yes, no = await place(house, ASKED), await place(house, ASKED)
    inbox = (await back.get("/inbox")).text
    for id, verb in ((yes, "approve"), (no, "decline")):
        form = {"verb": verb, "notes": "No glue left.", "csrf": hidden(inbox, "csrf")}
        assert (await back.post(f"/inbox/{id}", data=form, headers=ORIGIN)).status_code == 303
    assert "Nobody waits for an answer" in (await back.get("/inbox")).text
    declined = words_of((await back.get("/inbox?status=declined")).text)
    assert "declined by ann" in declined
    assert "No glue left." in declined
    assert "running" in words_of((await back.get(f"/operations/{yes}")).text)


async def test_whoever_decides_second_is_told_who_was_first(house: House, back: httpx2.AsyncClient) -> None:
    id = await place(house, ASKED)
    async with client_of(house.back, token=token_of(Role.STAFF, "bob")) as bob:
        assert (await bob.post(f"/inbox/{id}", data={"verb": "approve"})).status_code == 303
    await signed_in(back)
    csrf = hidden((await back.get(f"/operations/{id}")).text, "csrf")
    answer = await back.post(f"/inbox/{id}", data={"verb": "decline", "csrf": csrf}, headers=ORIGIN)
    assert answer.status_code == 409
    assert "bob was first" in words_of(answer.text)


async def test_what_was_decided_lately_and_by_whom_stands_below_what_waits(
    house: House, back: httpx2.AsyncClient
) -> None:
    ids = [await place(house, ASKED) for _ in range(3)]
    await signed_in(back)
    csrf = hidden((await back.get("/inbox")).text, "csrf")
    for id, verb in zip(ids[:2], ("approve", "decline"), strict=True):
        await back.post(f"/inbox/{id}", data={"verb": verb, "csrf": csrf}, headers=ORIGIN)
    waiting, _, decided = (await back.get("/inbox")).text.partition('<section id="decided"')
    assert [id in waiting for id in ids] == [False, False, True]
    assert re.findall(r"(\w+) by (\w+)", words_of(f"<main {decided}")) == [("declined", "ann"), ("approved", "ann")]
    assert ids[2] not in decided


async def test_of_what_was_decided_the_newest_comes_first(house: House, back: httpx2.AsyncClient) -> None:
    ids = [await place(house, ASKED) for _ in range(3)]
    await signed_in(back)
    csrf = hidden((await back.get("/inbox")).text, "csrf")
    for id in ids:
        await back.post(f"/inbox/{id}", data={"verb": "approve", "csrf": csrf}, headers=ORIGIN)
    shown = (await back.get("/inbox?status=approved")).text
    assert re.findall(r'id="rfa-(\w+)"', shown) == ids[::-1]


@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
async def test_a_form_from_another_site_changes_nothing(
    house: House, back: httpx2.AsyncClient, origin: str | None
) -> None:
    await signed_in(back)
    id = await place(house)
    csrf = hidden((await back.get(f"/operations/{id}")).text, "csrf")
    headers = {"Origin": origin} if origin else {}
    answer = await back.post(f"/operations/{id}", data={"verb": "cancel", "csrf": csrf}, headers=headers)
    assert answer.status_code == 403
    assert "pending" not in answer.text
    assert "running" in words_of((await back.get(f"/operations/{id}")).text)


async def test_an_operation_is_paused_resumed_and_cancelled_by_its_buttons(
    house: House, back: httpx2.AsyncClient
) -> None:
    await signed_in(back)
    id = await place(house)
    for verb, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        csrf = hidden((await back.get(f"/operations/{id}")).text, "csrf")
        answer = await back.post(f"/operations/{id}", data={"verb": verb, "csrf": csrf}, headers=ORIGIN)
        assert answer.headers["location"] == f"/operations/{id}"
        assert status in words_of((await back.get(f"/operations/{id}")).text)
    answer = await back.post(f"/operations/{id}", data={"verb": "pause", "csrf": csrf}, headers=ORIGIN)
    assert answer.status_code == 409


async def test_a_form_without_what_ours_carry_changes_nothing(house: House, back: httpx2.AsyncClient) -> None:
    await signed_in(back)
    id = await place(house)
    answer = await back.post(f"/operations/{id}", data={"verb": "cancel", "csrf": "0" * 64}, headers=ORIGIN)
    assert answer.status_code == 403
    assert "running" in words_of((await back.get(f"/operations/{id}")).text)


async def test_operations_are_listed_by_what_the_address_says(house: House, back: httpx2.AsyncClient) -> None:
    await signed_in(back)
    id, asked = await place(house), await place(house, ASKED)
    running = (await back.get("/operations?status=running&shop=workshop")).text
    assert id in running
    assert asked not in running
    assert "No operation is like this" in (await back.get("/operations?status=completed")).text


# What every page is like


async def test_pages_load_nothing_from_elsewhere_and_hold_no_script_of_their_own(
    house: House, front: httpx2.AsyncClient, back: httpx2.AsyncClient
) -> None:
    await signed_in(back)
    id = await place(house)
    pages = [await front.get(path) for path in ("/", "/pizza/")]
    pages += [await back.get(path) for path in ("/", "/inbox", "/operations", f"/operations/{id}", "/sign-in")]
    for page in pages:
        assert page.status_code == 200, page.url
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*src=)|\sstyle=|\son\w+=", page.text), page.url
        loaded = re.findall(r'(?:src|<link[^>]*href)="([^"]*)"', page.text)
        assert all(address.startswith("/static/") for address in loaded), loaded
        for address in loaded:
            file = await front.get(address)
            assert file.status_code == 200
            assert "immutable" in file.headers["cache-control"]


async def test_what_is_refused_is_told_on_a_page(back: httpx2.AsyncClient) -> None:
    await signed_in(back)
    answer = await back.get("/operations/0000000000000")
    assert answer.status_code == 404
    assert "There is no operation 0000000000000" in words_of(answer.text)


async def test_an_address_that_leads_nowhere_is_told_on_a_page_to_a_browser_and_in_json_to_a_program(
    front: httpx2.AsyncClient, back: httpx2.AsyncClient
) -> None:
    for app in (front, back):
        page = await app.get("/no/such/page", headers={"Accept": "text/html,*/*;q=0.8"})
        assert page.status_code == 404
        assert "There is nothing at /no/such/page." in words_of(page.text)
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        told = await app.get("/no/such/page")
        assert told.status_code == 404
        assert told.json()["detail"] == "There is nothing at /no/such/page."
