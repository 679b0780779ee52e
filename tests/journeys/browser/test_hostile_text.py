"""Whatever somebody writes is shown as what it is, a text: three hundred attempts to have it run, in every field that
takes a text, on every screen that shows one.

Every page that shows one is read by Chromium's own parser, which must find nothing there that is not ours. Lists, and
every fifteenth of the other pages, are opened besides: nothing may run there, nor be asked for elsewhere.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from playwright.async_api import Browser, Dialog, Page

from orderup.web.tokens import Role
from tests.journeys.browser.stage import REGION, STEPS, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
RUN = "window.hacked=1"
WAYS_OUT = ("", '"', "'", "`", "-->", "</title>", "</script>", "</textarea>", '"></svg>', "]]>", "{{", "\\", "\u2028")
VECTORS = (
    "<script>{run}</script>",
    "<img src=x onerror={run}>",
    "<svg onload={run}>",
    "<svg><script>{run}</script></svg>",
    "<body onload={run}>",
    "<details open ontoggle={run}>",
    "<input autofocus onfocus={run}>",
    "<video><source onerror={run}></video>",
    "<iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<iframe src=javascript:parent.hacked=1></iframe>",
    "<a href=javascript:{run} id=x>x</a>",
    "<form action=javascript:{run}><button>x</button></form>",
    "<math><mtext><table><mglyph><style><img src=x onerror={run}>",
    "<style>@import '//evil.example/x.css'</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<object data=//evil.example/x></object>",
    "<embed src=//evil.example/x>",
    "<template><script>{run}</script></template>",
    " onmouseover={run} autofocus onfocus={run} x=",
    "{{{{ 7*7 }}}}{{% include 'x' %}}${{{run}}}",
    "javascript:{run}",
    "&lt;script&gt;{run}&lt;/script&gt;",
)
PAYLOADS = [f"{way_out}{vector.format(run=RUN)}" for way_out, vector in product(WAYS_OUT, VECTORS)][:300]
MOST_IN_A_NAME = 100
OPENED, TOGETHER = 15, 50
# What no page of ours holds: see POLICY in orderup.web.pages.site.
STRANGERS = r"""(page) => [...page.querySelectorAll("*")].filter((each) => {
  const tag = each.tagName.toLowerCase();
  if (/^(base|embed|frame|iframe|img|math|object|style|template|video)$/.test(tag)) return true;
  if (tag === "meta" && each.httpEquiv) return true;
  const from = each.getAttribute("src") ?? each.getAttribute("href");
  if (/^(script|link)$/.test(tag) && !/^[/]static[/]/.test(from)) return true;
  const ours = /^([/][^/]|[/]?$|[?#]|http:[/][/]127.0.0.1:\d+[/])/;
  return [...each.attributes].some(({ name, value }) => /^on|^style$|^srcdoc$/i.test(name)
    || (/^(href|src|action|formaction)$/i.test(name) && !ours.test(value)));
}).map((each) => each.outerHTML.slice(0, 200))"""
# Each is an address that is asked for, the form that is sent there, if any, and the text that the answer must show.
READ = r"""async (asked) => (await Promise.all(asked.map(async ([address, form, text]) => {
  const options = form ? { method: "POST", body: new URLSearchParams(form) } : {};
  const answer = await fetch(address, { ...options, headers: { Accept: "text/html" } });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const values = [...page.querySelectorAll("input")].map((each) => each.value);
  const squeezed = (words) => words.split(/\s+/).join(" ").trim();
  const faults = (STRANGERS)(page);
  if (page.querySelector("main") === null) faults.push("no page of ours");
  const shown = squeezed(page.body.textContent + values.join(" "));
  if (text !== null && !shown.includes(squeezed(text))) faults.push("does not show " + text);
  return faults.map((fault) => `${address}: ${fault}`);
}))).flat()""".replace("STRANGERS", STRANGERS)
Asked = tuple[str, dict[str, str] | None, str | None]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("hostile")) as stage:
        yield stage


async def test_there_are_three_hundred_of_them() -> None:
    assert len(set(PAYLOADS)) == 300
    assert all(len(payload) <= MOST_IN_A_NAME for payload in PAYLOADS)


class Watched:
    """A window that notes what runs, what is asked for elsewhere, and what it complains of."""

    def __init__(self, page: Page, stage: Stage) -> None:
        self.page, self.wrong = page, list[str]()
        ours = (stage.server.front, stage.server.back)
        page.on("dialog", self._refuse)
        page.on("console", lambda line: self._note(line.type, line.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda it: None if it.url.startswith(ours) else self.wrong.append(it.url))

    async def _refuse(self, dialog: Dialog) -> None:
        self.wrong.append(dialog.message)
        await dialog.dismiss()

    def _note(self, kind: str, text: str) -> None:
        if kind == "error" and "status of 4" not in text:
            self.wrong.append(text)

    async def open(self, address: str) -> None:
        """With all that is folded unfolded."""
        await self.page.goto(address)
        await self.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        self.wrong += await self.page.evaluate(f"({STRANGERS})(document)")
        if await self.page.evaluate("window.hacked") is not None:
            self.wrong.append(f"{address}: something ran")

    async def read(self, asked: Sequence[Asked]) -> None:
        """Pages of the app that is open."""
        for first in range(0, len(asked), TOGETHER):
            self.wrong += await self.page.evaluate(READ, asked[first : first + TOGETHER])


async def window(stage: Stage, browser: Browser, role: Role | None, address: str) -> Watched:
    watched = Watched(await (await stage.window(browser, role)).new_page(), stage)
    await watched.open(address)
    return watched


async def in_turn(do: Callable[[Any], Any], things: Sequence[Any]) -> list[Any]:
    """By several hands, while pages go on."""
    with ThreadPoolExecutor(8) as hands:
        return await asyncio.to_thread(lambda: list(hands.map(do, things)))


def order(stage: Stage, payload: str) -> str:
    return stage.order(
        name=payload, customer=payload, delivery_address=payload, extra_params={"wish": payload, payload: 1}
    )


async def place_all(stage: Stage) -> list[str]:
    return await in_turn(lambda payload: order(stage, payload), PAYLOADS)


async def walk(staff: Watched, address: str) -> None:
    """From one page of a list to the next, over all of them."""
    await staff.open(address)
    pages = 1
    while await (further := staff.page.get_by_role("link", name="More").or_(older(staff.page))).count():
        pages += 1
        await staff.open(f"{address.partition('?')[0]}{await further.get_attribute('href')}")
    assert pages >= len(PAYLOADS) // 50


def older(page: Page) -> Any:
    return page.get_by_role("link", name="Older ones")


@pytest.mark.timeout(400)
async def test_nothing_that_a_customer_writes_is_run(stage: Stage, browser: Browser) -> None:
    front, back = stage.server.front, stage.server.back
    ids = await place_all(stage)
    customer = await window(stage, browser, None, f"{front}/")
    staff = await window(stage, browser, Role.STAFF, f"{back}/")
    for path in ("inbox", "operations"):
        await walk(staff, f"{back}/{path}")
    await customer.read([(stage.trackers[id], None, text) for id, text in zip(ids, PAYLOADS, strict=True)])
    await staff.read([(f"{back}/operations/{id}", None, text) for id, text in zip(ids, PAYLOADS, strict=True)])
    for id in ids[::OPENED]:
        await customer.open(stage.trackers[id])
        await staff.open(f"{back}/operations/{id}")
    assert customer.wrong == staff.wrong == []


def order_box(stage: Stage, text: str) -> tuple[str, str]:
    """The id of an order that names nothing that there is, and its tracker. What is invisible around a text is no part
    of a code."""
    wish, later = dict.fromkeys(("user_id", "product_code"), text.strip()), {"Prefer": "respond-async"}
    answer = stage.client.post(f"{stage.server.front}/mealbox/orders", json=wish, headers=later)
    placed = answer.raise_for_status().json()
    return placed["id"], placed["links"]["self"].replace("/orders/", "/track/")


@pytest.mark.timeout(400)
async def test_nothing_in_the_code_of_a_meal_box_is_run(stage: Stage, browser: Browser) -> None:
    front, back = stage.server.front, stage.server.back
    orders = await in_turn(lambda payload: order_box(stage, payload), PAYLOADS)
    customer = await window(stage, browser, None, f"{front}/mealbox/")
    staff = await window(stage, browser, Role.STAFF, f"{back}/mealbox/services")
    told = list(zip(orders, PAYLOADS, strict=True))
    await customer.read([(tracker, None, text) for (_, tracker), text in told])
    await staff.read([(f"{back}/operations/{id}", None, text) for (id, _), text in told])
    for id, tracker in orders[::OPENED]:
        await customer.open(tracker)
        await staff.open(f"{back}/operations/{id}")
    assert customer.wrong == staff.wrong == []


def order_cake(stage: Stage, numbered: tuple[int, str]) -> tuple[str, int, str]:
    """The id of a cake that is called so, and the number and the tracker of an order of it. What is invisible around a
    text, or breaks its line, is no part of a name."""
    number, text = numbered
    cake = stage.cake(f"{number} {text}", {text: 1.5})
    return cake, *stage.cake_order(cake, customer=text, extra_ingredients={f"more {text}": 1})


@pytest.mark.timeout(400)
async def test_nothing_that_is_written_at_the_bakery_is_run(stage: Stage, browser: Browser) -> None:
    front, back = f"{stage.server.front}/bakery", f"{stage.server.back}/bakery"
    numbered = list(enumerate(PAYLOADS, start=1))
    orders = await in_turn(lambda each: order_cake(stage, each), numbered)
    customer = await window(stage, browser, None, f"{front}/")
    staff = await window(stage, browser, Role.STAFF, f"{back}/recipes")
    await walk(staff, f"{back}/board?status=all")
    told = list(zip(orders, PAYLOADS, strict=True))
    await customer.read([(tracker, None, text) for (_, _, tracker), text in told])
    await customer.read([(f"{front}/order/{cake}", None, text) for (cake, _, _), text in told])
    await staff.read([(f"{back}/order/{number}", None, text) for (_, number, _), text in told])
    await staff.read([(f"{back}/recipes/{cake}", None, text) for (cake, _, _), text in told])
    for cake, number, tracker in orders[::OPENED]:
        await customer.open(tracker)
        await customer.open(f"{front}/order/{cake}")
        await staff.open(f"{back}/order/{number}")
    fields: tuple[str, ...] = ("persons", "quantity", "extras", "customer", "email", "key")
    await customer.read([(f"{front}/order/{orders[0][0]}", dict.fromkeys(fields, text), text) for text in PAYLOADS])
    assert customer.wrong == staff.wrong == []


def lead_hard_lives(stage: Stage, ids: Sequence[str]) -> None:
    """Errors, results, memos, notes and reasons, each text in its turn; by id."""
    texts = dict(zip(ids, PAYLOADS, strict=True))

    def live(id: str) -> None:
        text, fate = texts[id], ids.index(id) % 3
        if fate == 0:
            stage.staff(f"/api/rfas/{id}/decline", {"notes": text})
        elif fate == 1:
            stage.staff(f"/api/operations/{id}/cancel", {"reason": text})
        else:
            stage.approve(id, text)

    def work(task: dict[str, Any]) -> None:
        text = texts[task["id"].partition("-")[0]]
        match task["attempt"], len(text) % 3:
            case _, 0:
                stage.work(task, "fail", error=text, final=True)
            case _, 1:
                stage.work(task, "complete", result={text: text})
            case _:
                stage.work(task, "wait", seconds=3000, memo={text: text})

    with ThreadPoolExecutor(8) as hands:
        list(hands.map(live, ids))
        waiting = len(ids) // 3
        while waiting > 0:
            tasks = stage.claim_many(STEPS[0], most=50)
            list(hands.map(work, tasks))
            waiting -= len(tasks)


@pytest.mark.timeout(400)
async def test_nothing_that_staff_or_a_worker_writes_is_run(stage: Stage, browser: Browser) -> None:
    front, back = stage.server.front, stage.server.back
    ids = await place_all(stage)
    await asyncio.to_thread(lead_hard_lives, stage, ids)
    customer = await window(stage, browser, None, f"{front}/")
    staff = await window(stage, browser, Role.STAFF, f"{back}/")
    await staff.read([(f"{back}/operations/{id}", None, text) for id, text in zip(ids, PAYLOADS, strict=True)])
    declined = list(zip(ids[::3], PAYLOADS[::3], strict=True))
    await customer.read([(stage.trackers[id], None, f"“{text}”") for id, text in declined])
    for id in ids[::OPENED]:
        await customer.open(stage.trackers[id])
        await staff.open(f"{back}/operations/{id}")
    for path in (
        "",
        "inbox?status=declined",
        "operations?status=errored",
        "queues",
        "workers",
        "deliveries",
        "station",
    ):
        await staff.open(f"{back}/{path}")
    for step in STEPS:
        await staff.open(f"{back}/station/pizza/{step}?region={REGION}")
    assert customer.wrong == staff.wrong == []


ADDRESSES = (
    "/operations?status={}",
    "/operations?shop={}",
    "/operations?cursor={}",
    "/operations/{}",
    "/inbox?status={}",
    "/inbox?cursor={}",
    "/station/pizza/{}",
    "/station/pizza/make_dough?region={}",
    "/?shop={}",
    "/queues?shop={}",
    "/workers?shop={}",
    "/schedules?shop={}",
    "/deliveries?status={}",
    "/sign-in?next={}",
    "/sign-in?next=/{}",
    "/{}",
)


@pytest.mark.timeout(400)
async def test_nothing_in_an_address_is_run(stage: Stage, browser: Browser) -> None:
    front, back = stage.server.front, stage.server.back
    customer = await window(stage, browser, None, f"{front}/")
    staff = await window(stage, browser, Role.STAFF, f"{back}/")
    texts = [quote(text, safe="") for text in PAYLOADS]
    # each address with every fifth text, each text in three addresses
    drawn = list(product(enumerate(ADDRESSES), enumerate(texts)))
    addresses = [back + address.format(text) for (n, address), (m, text) in drawn if (n + m) % 5 == 0]
    await staff.read([(address, None, None) for address in addresses])
    await customer.read([(f"{front}/pizza/track/{text}?key={text}", None, None) for text in texts])
    for number in range(0, len(addresses), 2 * OPENED + 1):
        await staff.open(addresses[number])
    assert customer.wrong == staff.wrong == []


@pytest.mark.timeout(400)
async def test_nothing_in_a_form_that_was_filled_in_wrongly_is_run(stage: Stage, browser: Browser) -> None:
    """What is shown again is what was written."""
    front, back = stage.server.front, stage.server.back
    customer = await window(stage, browser, None, f"{front}/")
    stranger = await window(stage, browser, None, f"{back}/sign-in")
    fields: tuple[str, ...] = ("tier", "name", "customer", "delivery_address", "key")
    await customer.read([(f"{front}/pizza/", dict.fromkeys(fields, text), text) for text in PAYLOADS])
    fields = ("user_id", "product_code", "key")
    await customer.read([(f"{front}/mealbox/", dict.fromkeys(fields, text), text) for text in PAYLOADS])
    await stranger.read([(f"{back}/sign-in", {"token": text, "next": f"/{text}"}, None) for text in PAYLOADS])
    assert customer.wrong == stranger.wrong == []


@pytest.mark.parametrize(
    "elsewhere",
    [
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        "javascript:alert(1)",
    ],
)
async def test_signing_in_leads_nowhere_else(stage: Stage, browser: Browser, elsewhere: str) -> None:
    stranger = await window(stage, browser, None, f"{stage.server.back}/sign-in?{urlencode({'next': elsewhere})}")
    await stranger.page.get_by_label("Your token").fill(stage.token(Role.STAFF))
    await stranger.page.get_by_role("button", name="Go on").click()
    await stranger.page.wait_for_url(lambda url: "sign-in" not in url)
    assert stranger.page.url.startswith(f"{stage.server.back}/")
    assert stranger.wrong == []
