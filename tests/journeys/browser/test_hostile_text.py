"""Whatever somebody writes is shown as what it is, a text: three hundred attempts to have it run, in every field that
takes a text, on every screen that shows one."""

import os
from collections.abc import Iterator
from itertools import product
from urllib.parse import quote

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
# All are on the lists. On pages of one order, every so many: with ORDERUP_EVERY_PAYLOAD=1 all, which takes minutes. A
# number without a factor in common with those of vectors and ways out, so that each of these has its turn.
EVERY = int(os.environ.get("ORDERUP_EVERY_PAYLOAD", "7"))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("hostile")) as stage:
        yield stage


async def test_there_are_three_hundred_of_them() -> None:
    assert len(set(PAYLOADS)) == 300
    assert all(len(payload) <= MOST_IN_A_NAME for payload in PAYLOADS)


class Watched:
    """A window that notes what runs, what is loaded from elsewhere, and what it complains of."""

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

    async def look(self, url: str, *, shows: str | None = None) -> None:
        """At a page, on which this text is to be read as it was written."""
        await self.page.goto(url)
        for each in await self.page.locator("summary").all():
            await each.click()
        assert await self.page.evaluate("window.hacked") is None, url
        if shows is not None:
            text = await self.page.evaluate(
                "document.body.innerText + [...document.querySelectorAll('input')].map(e => e.value)"
            )
            assert squeezed(shows) in squeezed(text), (url, shows)


def squeezed(text: str) -> str:
    """As a page shows it, which joins white space."""
    return " ".join(text.split())


def order(stage: Stage, payload: str) -> str:
    return stage.order(
        name=payload, customer=payload, delivery_address=payload, extra_params={"wish": payload, payload: 1}
    )


def lead_a_hard_life(stage: Stage, payload: str) -> dict[str, str]:
    """Orders in which every text that people and workers write is this one, by how they ended."""
    ids = {"failed": stage.approve(order(stage, payload), payload)}
    task = stage.claim(STEPS[0], worker="w")
    stage.work(task, "fail", error=payload, final=True)
    ids["made"] = stage.approve(order(stage, payload), payload)
    stage.work(stage.claim(STEPS[0], worker="w"), "complete", result={payload: payload})
    stage.work(stage.claim(STEPS[1], worker="w"), "wait", seconds=3000, memo={"memo": payload})
    ids["declined"] = order(stage, payload)
    stage.staff(f"/api/rfas/{ids['declined']}/decline", {"notes": payload})
    return ids


def rounds(payloads: list[str], *, of: int) -> list[str]:
    """Several in one text, so that each order carries many."""
    return [" | ".join(payloads[first : first + of]) for first in range(0, len(payloads), of)]


@pytest.mark.timeout(400)
async def test_nothing_that_is_written_into_an_order_is_run_on_any_page(stage: Stage, browser: Browser) -> None:
    """Three hundred orders, each with a text of its own in all its fields; every list shows them all."""
    ids = [order(stage, payload) for payload in PAYLOADS]
    customer, staff = [
        Watched(await (await stage.window(browser, role)).new_page(), stage) for role in (None, Role.STAFF)
    ]
    for payload, id in list(zip(PAYLOADS, ids, strict=True))[::EVERY]:
        await customer.look(stage.trackers[id], shows=payload)
    for path in ("inbox", "operations"):
        await walk(staff, f"{stage.server.back}/{path}", pages=6)
    assert customer.wrong == staff.wrong == []


async def walk(window: Watched, url: str, *, pages: int) -> None:
    """From one page of a list to the next."""
    await window.look(url)
    for _ in range(pages - 1):
        await window.page.get_by_role("link", name="More").or_(window.page.get_by_role("link", name="Older")).click()
        assert await window.page.evaluate("window.hacked") is None


@pytest.mark.timeout(400)
async def test_nothing_that_staff_or_a_worker_writes_is_run_on_any_page(stage: Stage, browser: Browser) -> None:
    customer, staff = [
        Watched(await (await stage.window(browser, role)).new_page(), stage) for role in (None, Role.STAFF)
    ]
    for payload in PAYLOADS[:: 5 * EVERY]:
        ids = lead_a_hard_life(stage, payload)
        await customer.look(stage.trackers[ids["declined"]], shows=payload)
        await customer.look(stage.trackers[ids["failed"]])
        for state, id in ids.items():
            shown = None if state == "declined" else payload
            await staff.look(f"{stage.server.back}/operations/{id}", shows=shown)
    for path in (
        "",
        "inbox?status=declined",
        "operations?status=errored",
        "queues",
        "workers",
        "deliveries",
        "station",
    ):
        await staff.look(f"{stage.server.back}/{path}")
    await staff.look(f"{stage.server.back}/station/pizza/{STEPS[1]}?region={REGION}")
    assert customer.wrong == staff.wrong == []


ADDRESSES = (
    "/operations?status={}",
    "/operations?shop={}",
    "/inbox?status={}",
    "/inbox?cursor={}",
    "/operations/{}",
    "/station/pizza/{}",
    "/station/pizza/make_dough?region={}",
    "/sign-in?next={}",
    "/{}",
)


@pytest.mark.timeout(400)
async def test_nothing_in_an_address_is_run(stage: Stage, browser: Browser) -> None:
    staff = Watched(await (await stage.window(browser, Role.STAFF)).new_page(), stage)
    stranger = Watched(await (await stage.window(browser, None)).new_page(), stage)
    for number, payload in enumerate(PAYLOADS[::EVERY]):
        path = ADDRESSES[number % len(ADDRESSES)].format(quote(payload, safe=""))
        await (stranger if "sign-in" in path else staff).look(f"{stage.server.back}{path}")
        if number % 10 == 0:
            await stranger.look(
                f"{stage.server.front}/pizza/track/{quote(payload, safe='')}?key={quote(payload, safe='')}"
            )
    assert staff.wrong == stranger.wrong == []


async def test_what_is_wrong_in_a_form_comes_back_as_it_was_written(stage: Stage, browser: Browser) -> None:
    customer = Watched(await (await stage.window(browser, None)).new_page(), stage)
    for payload in PAYLOADS[::25]:
        await customer.look(f"{stage.server.front}/pizza/")
        await customer.page.get_by_label("Your name").fill(payload)
        await customer.page.evaluate("document.querySelector('form.order').noValidate = true")
        await customer.page.get_by_role("button", name="Order").click()
        value = await customer.page.get_by_label("Your name").input_value()
        assert value == payload
        assert await customer.page.evaluate("window.hacked") is None
    assert customer.wrong == []
