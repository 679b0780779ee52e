"""Every shop with orders in every state, and the screens that show them: made once, looked at by many tests."""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import httpx2
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from orderup.shops.campaigns.import_pages import sample
from orderup.web.pages.session import TOKEN_COOKIE
from orderup.web.tokens import Role
from tests.journeys.windows import DESK, PATIENCE_MS
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ServerProcess, sqlite_url
from tests.shops.campaigns.samples import campaign
from tests.web.house import SECRET, token_of

PIZZA = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
STEPS = ("make_dough", "add_toppings", "bake_pizza", "deliver_pizza")
REGION = "eu-west-3"
CAKE = {"chocolate": 33.5, "butter": 16.5, "flour": 8.5, "sugar": 16.5, "eggs": 1}
USER = "7c11e1ce2741"
# Of meal boxes: one that the services know, one that fails for them, one about which they say nothing.
GOOD_BOX, BAD_BOX, SILENT_BOX = "classic-box", "veggie-box", "silent-box"


@dataclass(frozen=True, slots=True)
class Screen:
    """One address as somebody sees it. status: of the answer. act: what to do there first."""

    name: str
    url: str
    role: Role | None = None
    status: int = 200
    act: Callable[[Page], Awaitable[object]] | None = None


class Stage:
    """A server with SECRET_KEY and every shop, on SQLite, and the sandbox beside it; whoever acts has a token."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        # a coffee whose page nobody looks at stays in the line, and a service is waited for, as long as a test needs it
        stays = {"COFFEE_KEEP_SECONDS": "3600", "UPSTREAM_DEADLINE_SECONDS": "3600"}
        fails = {"MEALBOX_ATTEMPTS": "1"}
        at_once = {"BAKERY_DAILY_ISSUE": "false"}
        brisk = {"DSP_REQUESTS_A_MINUTE": "6000", "DSP_STATUS_SECONDS": "0.1"}
        hasty = {"DSP_DEADLINE_SECONDS": "4", "DSP_SEARCH_SECONDS": "0"}
        usual = {"SECRET_KEY": SECRET.get_secret_value(), **stays, **fails, **at_once, **brisk, **hasty}
        self.environment = {**usual, **(environment or {})}
        self.sandbox_port = free_port()
        self.server = self._server("server", self.environment)
        self.client = httpx2.Client(timeout=PATIENCE_SECONDS)
        self.trackers: dict[str, str] = {}

    def _server(self, name: str, environment: Mapping[str, str]) -> ServerProcess:
        url = sqlite_url(self.folder)
        options = ["--sandbox-port", str(self.sandbox_port)]
        return ServerProcess(folder=self.folder, database_url=url, options=options, environment=environment, name=name)

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.end()

    def token(self, role: Role, name: str = "ann") -> str:
        return token_of(role, name)

    # acting by the API

    def call(self, role: Role, method: str, url: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token(role)}"}
        answer = self.client.request(method, url, json=body, headers=headers)
        return answer.raise_for_status().json()

    def staff(self, path: str, body: Any = None) -> Any:
        return self.call(Role.STAFF, "POST", f"{self.server.back}{path}", {} if body is None else body)

    def order(self, *, front: str | None = None, **wishes: Any) -> str:
        """The id of a new order, whose tracker is kept."""
        placed = self.call(Role.CUSTOMER, "POST", f"{front or self.server.front}/pizza/pizzas", {**PIZZA, **wishes})
        self.trackers[placed["id"]] = placed["links"]["self"].replace("/pizzas/", "/track/")
        return str(placed["id"])

    def coffee(self) -> str:
        """The tracker of a new order of the coffee bar, placed by its page."""
        answer = self.client.post(f"{self.server.front}/coffee/", data={"key": uuid4().hex})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def start_coffee(self) -> str:
        """The id of the order."""
        started = self.call(Role.WORKER, "GET", f"{self.server.back}/coffee/start/?barista=ann&wait=10")
        return str(started["order_id"])

    def finish_coffee(self, id: str) -> None:
        self.call(Role.WORKER, "POST", f"{self.server.back}/coffee/finish/?order_id={id}")

    def box(self, code: str) -> str:
        """The tracker of a new order of a meal box, placed by its page."""
        form = {"user_id": USER, "product_code": code, "key": uuid4().hex}
        answer = self.client.post(f"{self.server.front}/mealbox/", data=form)
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def cake(self, name: str, ingredients: Mapping[str, float] = CAKE) -> str:
        """The id of a new one."""
        body = {"name": name, "ingredients": ingredients}
        return str(self.call(Role.STAFF, "POST", f"{self.server.front}/bakery/cakes", body)["id"])

    def cake_order(self, cake: str, **wishes: Any) -> tuple[int, str]:
        """The number of a new order, and its tracker."""
        body = {"customer": "Ada Lovelace", "recipe": cake, "persons": 4, "quantity": 2, **wishes}
        placed = self.call(Role.CUSTOMER, "POST", f"{self.server.front}/bakery/orders", body)
        return placed["id"], placed["links"]["self"].replace("/orders/", "/track/")

    def bake(self, number: int) -> None:
        self.call(Role.STAFF, "POST", f"{self.server.front}/bakery/orders/{number}/ready")

    def issue(self, number: int) -> str:
        """The page of the issue that orders what an order needs, once it is made."""
        order = f"{self.server.front}/bakery/orders/{number}"
        wait_until(lambda: self.call(Role.STAFF, "GET", order)["issue"] is not None, what="an issue is made")
        headers = {"Authorization": f"Bearer {self.token(Role.STAFF)}"}
        page = self.client.get(f"{self.server.back}/bakery/order/{number}", headers=headers).text
        [path] = re.findall(r'href="(/bakery/issues/\w+)"', page)
        return f"{self.server.back}{path}"

    def hire(self, **about: Any) -> int:
        """The id of a new employee."""
        body = {"firstName": "Jack", "lastName": "Harrot", **about}
        return int(self.call(Role.ADMIN, "POST", f"{self.server.front}/bakery/employees", body)["id"])

    def open_platform(self) -> None:
        """The advertising platform takes what comes, judges soon, and cannot be searched."""
        brisk = {"verdict_seconds": "0.2", "search_delay_seconds": "0", "requests": "100000", "window_seconds": "60"}
        self.client.post(f"{self.platform}/page/settings", data=brisk)

    @property
    def platform(self) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}/dsp"

    def campaign(self, name: str, *, loses: str | None = None, **about: Any) -> str:
        """The id of a new one. loses: the call at the platform of which nobody hears what became."""
        if loses is not None:
            switch = {"route": loses, "times": 1, "status": 500}
            self.client.put(f"{self.platform}/behaviour", json=switch).raise_for_status()
        body = campaign(name, **about)
        return str(self.call(Role.STAFF, "POST", f"{self.server.front}/campaigns/campaigns", body)["id"])

    def ended_campaign(self, name: str, **about: Any) -> str:
        id = self.campaign(name, **about)
        wait_until(lambda: self.status(id) in ("completed", "errored"), what=f"{name} comes to its end")
        return id

    def import_file(self, text: str) -> str:
        """The id of a new import."""
        headers = {"Authorization": f"Bearer {self.token(Role.STAFF)}"}
        file = {"file": ("campaigns.csv", text, "text/csv")}
        address = f"{self.server.front}/campaigns/campaigns/import"
        return str(self.client.post(address, files=file, headers=headers).raise_for_status().json()["id"])

    def keep_silent_about(self, code: str) -> None:
        """Whoever asks for this meal box gets no answer."""
        behaviour = {"name": "Silent Box", "price": 9.99, "body": "hang"}
        address = f"http://127.0.0.1:{self.sandbox_port}/mealbox/products/{code}/behaviour"
        self.client.put(address, json=behaviour).raise_for_status()

    def approve(self, id: str, notes: str | None = None) -> str:
        self.staff(f"/api/rfas/{id}/approve", {"notes": notes})
        return id

    def claim(self, step: str, *, worker: str = "oven-1") -> dict[str, Any]:
        """The first task in line."""
        [task] = self.claim_many(step, most=1, worker=worker)
        return task

    def claim_many(self, step: str, *, most: int, worker: str = "oven-1") -> list[dict[str, Any]]:
        """The first tasks in line, once there are some."""
        ask = {"worker": worker, "shop": "pizza", "tasks": [step], "region": REGION, "max": most, "wait": 10}
        tasks = self.call(Role.WORKER, "POST", f"{self.server.back}/api/work/claim", ask)["tasks"]
        assert tasks, f"nobody needs {step}"
        return list(tasks)

    def work(self, task: Mapping[str, Any], verb: str, **body: Any) -> None:
        url = f"{self.server.back}/api/work/{task['id']}/{verb}"
        self.call(Role.WORKER, "POST", url, {"token": task["token"], **body})

    def make(self, *steps: str, orders: int = 1) -> None:
        """Do these steps of so many orders, of whichever are first in line."""
        for step in steps:
            made = 0
            while made < orders:
                for task in self.claim_many(step, most=orders - made):
                    self.work(task, "complete", result={"done": step})
                    made += 1

    def expired_order(self) -> str:
        """One that nobody answered in time."""
        hasty = self._server("hasty", {**self.environment, "RFA_EXPIRY_HOURS": "0.0001"})
        with hasty:
            hasty.start()
            id = self.order(front=hasty.front)
        wait_until(lambda: self.status(id) == "cancelled", what="the request expires")
        self.trackers[id] = self.trackers[id].replace(hasty.front, self.server.front)
        return id

    def status(self, id: str) -> str:
        return str(self.call(Role.STAFF, "GET", f"{self.server.back}/api/operations/{id}")["status"])

    # looking

    async def window(self, browser: Browser, role: Role | None, *, name: str = "ann", **options: Any) -> BrowserContext:
        """Somebody's browser, signed in."""
        context = await browser.new_context(**{"viewport": DESK, **options})
        context.set_default_timeout(PATIENCE_MS)
        if role is not None:
            token = self.token(role, name)
            await context.add_cookies(
                [{"name": TOKEN_COOKIE, "value": token, "url": app} for app in (self.server.front, self.server.back)]
            )
        return context


async def visit(page: Page, screen: Screen) -> None:
    """Until it is there, and live if it is a page that becomes so."""
    answer = await page.goto(screen.url)
    assert answer is not None
    assert answer.status == screen.status, f"{screen.name}: {answer.status}"
    if screen.act:
        await screen.act(page)
        await page.wait_for_load_state()


def press(*buttons: str) -> Callable[[Page], Awaitable[object]]:
    """One after the other."""

    async def act(page: Page) -> None:
        for button in buttons:
            await page.get_by_role("button", name=button).first.click()

    return act


async def order_nothing(page: Page) -> None:
    for label in ("What do you call it?", "Your name", "Where do you want it?"):
        await page.get_by_label(label).fill(" ")
    await page.get_by_role("button", name="Order").click()


async def order_no_box(page: Page) -> None:
    await page.get_by_label("Your customer number").fill(USER)
    await page.get_by_label("Which box?").fill("no-such-box")
    await page.get_by_role("button", name="Order").click()


async def order_no_cake(page: Page) -> None:
    await page.get_by_label("How many eat of each?").fill("many")
    await page.get_by_label("Anything extra?").fill("peanuts\nbutter 1 kg")
    await page.get_by_label("Your name").fill("…")
    await page.get_by_label("Your e-mail address").fill("nobody's")
    await page.get_by_role("button", name="Order").click()


async def write_no_recipe(page: Page) -> None:
    await page.get_by_label("What is the cake called?").fill("…")
    await page.get_by_label("What goes into it").fill("eggs 1.5 pcs\nflour")
    await page.get_by_role("button", name="Write it").click()


async def hire_nobody(page: Page) -> None:
    await page.get_by_label("First name").fill(" ")
    await page.get_by_label("Last name").fill(" ")
    await page.get_by_label("Developer").check()
    await page.get_by_label("What else").fill("Ö")
    await page.get_by_role("button", name="Hire").click()


async def sign_in_wrongly(page: Page) -> None:
    await page.get_by_label("Your token").fill("nobody's")
    await page.get_by_role("button", name="Go on").click()


async def unfold(page: Page) -> None:
    await page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def answer_too_late(stage: Stage, id: str) -> Callable[[Page], Awaitable[object]]:
    """Somebody else has answered, and this page could not know it."""

    async def act(page: Page) -> None:
        async def let_others_go_first(route: Route) -> None:
            await asyncio.to_thread(stage.approve, id)
            await route.continue_()

        await page.route(f"**/inbox/{id}", let_others_go_first)
        await page.locator(f"#rfa-{id}").get_by_role("button", name="Decline").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Already approved")

    return act


AS_READ = """() => {
  const main = document.querySelector("main").cloneNode(true);
  for (const time of main.querySelectorAll("time[data-since]")) time.textContent = "a while";
  return main.textContent.split(/\\s+/).join(" ");
}"""


async def same_as_anew(pages: Sequence[Page]) -> None:
    """What these pages of one person have come to show is what he is shown if he opens them now, but for how long ago
    it was."""
    fresh = await pages[0].context.new_page()
    for page in pages:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            await fresh.goto(page.url)
            expected, shown = await fresh.evaluate(AS_READ), await page.evaluate(AS_READ)
            if shown == expected or time.monotonic() > end:
                break
        assert shown == expected, page.url
    await fresh.close()


def bare(stage: Stage) -> list[Screen]:
    """The screens on which there is nothing yet."""
    back = stage.server.back
    paths = ("", "inbox", "operations", "station", "queues", "workers", "schedules", "deliveries")
    bakery = ("board", "recipes", "issues", "people")
    return [
        *(Screen(f"{path or 'today'}, nothing yet", f"{back}/{path}", Role.STAFF) for path in paths),
        *(Screen(f"bakery {path}, nothing yet", f"{back}/bakery/{path}", Role.ADMIN) for path in bakery),
        Screen("bakery, nothing yet", f"{stage.server.front}/bakery/"),
        *(
            Screen(f"campaign desk {path}, nothing yet", f"{back}/campaigns/{path}", Role.STAFF)
            for path in ("campaigns", "imports", "tasks")
        ),
    ]


def furnish_bakery(stage: Stage) -> list[Screen]:
    front, back = f"{stage.server.front}/bakery", f"{stage.server.back}/bakery"
    cake = stage.cake("Chocolate Cake")
    stage.cake("كعكة التمر", {"تمر": 60.0, "flour": 30.0})
    orders = {state: stage.cake_order(cake) for state in ("ordered", "ready", "cancelled")}
    stage.bake(orders["ready"][0])
    stage.client.delete(orders["cancelled"][1].replace("/track/", "/orders/")).raise_for_status()
    employee = stage.hire(permissions={"developer": True, "keys": True}, github="nobody-there")
    recipe = f"{back}/recipes/{cake}"
    return [
        Screen("bakery", f"{front}/"),
        Screen("bakery, a recipe", f"{front}/order/{cake}"),
        Screen("bakery, a recipe with faults", f"{front}/order/{cake}", act=order_no_cake),
        *(Screen(f"bakery, {state}", tracker, act=unfold) for state, (_, tracker) in orders.items()),
        Screen("bakery board", f"{back}/board", Role.STAFF),
        Screen("bakery board, all", f"{back}/board?status=all", Role.ADMIN),
        *(
            Screen(f"bakery, {state} to staff", f"{back}/order/{number}", Role.STAFF)
            for state, (number, _) in orders.items()
        ),
        Screen("bakery recipes", f"{back}/recipes", Role.STAFF),
        Screen("bakery recipes, with faults", f"{back}/recipes", Role.STAFF, act=write_no_recipe),
        Screen("bakery recipe", f"{recipe}?eaters=12", Role.STAFF, act=unfold),
        Screen("bakery recipe, with faults", f"{recipe}?eaters=many", Role.STAFF, status=422),
        Screen("bakery issues", f"{back}/issues", Role.STAFF),
        Screen("bakery issue", stage.issue(orders["ordered"][0]), Role.STAFF),
        Screen("bakery services", f"{back}/services", Role.STAFF),
        Screen("bakery people", f"{back}/people", Role.ADMIN),
        Screen("bakery people, with faults", f"{back}/people", Role.ADMIN, act=hire_nobody),
        Screen("bakery person", f"{back}/people/{employee}", Role.ADMIN),
    ]


def furnish_campaigns(stage: Stage) -> list[Screen]:
    front, back = f"{stage.server.front}/campaigns", f"{stage.server.back}/campaigns"
    stage.open_platform()
    wrong = sample() + sample().splitlines()[1].replace("5000", "-5") + "\n"
    campaigns = {
        "completed": stage.ended_campaign("spring"),
        "rejected": stage.ended_campaign("summer", rejected="g2"),
        "unknown": stage.ended_campaign("autumn", loses="submit_ad"),
        "large": stage.campaign("winter", groups=60, ads=5),
    }
    imports = {"ready": stage.import_file(sample()), "with faults": stage.import_file(wrong)}
    stage.call(Role.STAFF, "POST", f"{front}/api/tasks", {"id": 3, "status": "Not Started"})
    return [
        Screen("campaign desk", f"{front}/"),
        Screen("campaigns", f"{back}/campaigns", Role.STAFF),
        *(Screen(f"campaign, {state}", f"{back}/campaigns/{id}", Role.STAFF) for state, id in campaigns.items()),
        Screen("campaign, opened", f"{back}/campaigns/{campaigns['large']}?groups=2&group=51", Role.STAFF),
        Screen("campaign imports", f"{back}/imports", Role.STAFF, act=unfold),
        *(Screen(f"campaign import, {state}", f"{back}/imports/{id}", Role.STAFF) for state, id in imports.items()),
        Screen("campaign desk tasks", f"{back}/tasks", Role.STAFF),
        Screen("campaign desk services", f"{back}/services", Role.STAFF),
    ]


def furnish(stage: Stage) -> list[Screen]:
    """Orders in every state, made by the API; every screen that there is to look at."""
    front, back = stage.server.front, stage.server.back
    orders = {
        "delivered": stage.approve(stage.order(), "Enjoy!"),
    }
    stage.make(*STEPS)
    orders["failed"] = stage.approve(stage.order(name="Diavola", tier="standard"))
    stage.work(stage.claim("make_dough"), "fail", error="the mixer is on fire", final=True)
    orders["retried"] = stage.approve(stage.order(name="Funghi"))
    stage.work(stage.claim("make_dough"), "fail", error="the mixer stopped")
    orders["on hold"] = stage.approve(stage.order(name="Napoli"))
    stage.staff(f"/api/operations/{orders['on hold']}/pause")
    orders["baking"] = stage.approve(stage.order(name="Tartufo", tier="premium"))
    stage.make("make_dough", "add_toppings")
    stage.claim("bake_pizza")
    orders["approved"] = stage.approve(stage.order(name="Marinara"))
    orders["declined"] = stage.order()
    stage.staff(f"/api/rfas/{orders['declined']}/decline", {"notes": "We are out of basil."})
    orders["cancelled"] = stage.order()
    stage.staff(f"/api/operations/{orders['cancelled']}/cancel")
    orders["expired"] = stage.expired_order()
    orders["waiting"] = stage.order(customer="Bo", extra_params={"no": ["olives"]})
    coffees = {state: stage.coffee() for state in ("ready", "being brewed", "in line")}
    stage.finish_coffee(stage.start_coffee())
    stage.start_coffee()
    stage.keep_silent_about(SILENT_BOX)
    boxes = {
        "completed": stage.box(GOOD_BOX),
        "failed": stage.box(BAD_BOX),
        "pending": stage.box(SILENT_BOX),
        "cancelled": stage.box(SILENT_BOX),
    }
    stage.client.delete(boxes["cancelled"].replace("/track/", "/orders/")).raise_for_status()
    customers = [
        Screen("home", f"{front}/"),
        Screen("menu", f"{front}/pizza/"),
        Screen("menu, with faults", f"{front}/pizza/", act=order_nothing),
        Screen("nothing there", f"{front}/no/such/page", status=404),
        Screen("not found", f"{front}/pizza/track/0000000000000?key=abc", status=404),
        *(Screen(f"tracker, {state}", stage.trackers[id]) for state, id in orders.items()),
        Screen("coffee bar", f"{front}/coffee/"),
        *(Screen(f"coffee, {state}", address) for state, address in coffees.items()),
        Screen("meal box form", f"{front}/mealbox/"),
        Screen("meal box form, with faults", f"{front}/mealbox/", act=order_no_box),
        *(Screen(f"meal box, {state}", address) for state, address in boxes.items()),
    ]
    staff = [
        Screen("sign-in", f"{back}/sign-in"),
        Screen("sign-in, refused", f"{back}/sign-in", act=sign_in_wrongly),
        Screen("asked to sign in", f"{back}/operations", status=401),
        Screen("forbidden", f"{back}/inbox", Role.CUSTOMER, status=403),
        Screen("inbox", f"{back}/inbox", Role.STAFF),
        Screen("inbox, declined", f"{back}/inbox?status=declined", Role.STAFF),
        Screen("today", f"{back}/", Role.STAFF),
        Screen("operations", f"{back}/operations", Role.STAFF),
        Screen("operations, errored", f"{back}/operations?status=errored", Role.STAFF),
        Screen("bulk preview", f"{back}/operations?status=errored", Role.STAFF, act=press("Retry all")),
        *(Screen(f"operation, {state}", f"{back}/operations/{id}", Role.STAFF) for state, id in orders.items()),
        *(Screen(name, f"{back}/{name}", Role.STAFF) for name in ("queues", "workers", "schedules", "deliveries")),
        Screen("meal box services", f"{back}/mealbox/services", Role.STAFF),
        Screen("stations", f"{back}/station", Role.STAFF),
        Screen("station", f"{back}/station/pizza/make_dough?region={REGION}", Role.WORKER),
        Screen("coffee station", f"{back}/station/coffee/brew", Role.WORKER),
        Screen(
            "station, at work", f"{back}/station/pizza/make_dough?region={REGION}", Role.STAFF, act=press("Take next")
        ),
    ]
    changing = [
        Screen("inbox, too late", f"{back}/inbox", Role.STAFF, act=answer_too_late(stage, orders["waiting"])),
        Screen("bulk report", f"{back}/operations?status=errored", Role.STAFF, act=press("Retry all", "Retry them")),
    ]
    return [*customers, *staff, *furnish_bakery(stage), *furnish_campaigns(stage), *changing]


def chosen(screens: list[Screen]) -> list[Screen]:
    """ORDERUP_SCREENS=station looks at those whose names hold this."""
    part = os.environ.get("ORDERUP_SCREENS", "")
    return [screen for screen in screens if part in screen.name]
