"""Every endpoint of front and back, from what their OpenAPI says, and a request to each that would succeed.

`RECIPES` says how to make what an endpoint is about: an order to look at, a task to complete. Each recipe makes it
anew, so that a request that changes something can be sent again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2

from orderup.cli.assembly import House, make_engine
from orderup.cli.shops import load_shops
from orderup.cli.stand_ins import lead_to, missing_settings
from orderup.db.busy import schedule_rows
from orderup.db.connect import open_database
from orderup.db.database import WriteConnection
from orderup.db.deliveries import Outcome, register_target, settle
from orderup.db.read import events_between
from orderup.engine.engine import Engine
from orderup.engine.limit import pause_queue
from orderup.engine.place import place_order
from orderup.engine.schedule import pause_schedule, register_schedules
from orderup.engine.steer import cancel_operation
from orderup.errors import Conflict
from orderup.model.delivery import show_delivery_id
from orderup.model.event import Audience, Event
from orderup.model.ids import OperationId, read_id, show_id
from orderup.model.operation import Draft
from orderup.model.plan import Plan, PlannedTask
from orderup.model.task import TaskStatus
from orderup.model.work import settle as end_if_over
from orderup.sandbox import serve_sandbox
from orderup.sandbox.server import Sandbox
from orderup.settings import Settings
from orderup.shops.bakery.plan import plan_issue
from orderup.shops.campaigns.campaign import parse_campaign
from orderup.shops.campaigns.campaigns import write_row
from orderup.shops.campaigns.campaigns_api import CAMPAIGN
from orderup.shops.campaigns.import_pages import sample
from orderup.shops.campaigns.plan import plan_campaign
from orderup.shops.coffee.plan import COFFEE, QUEUE as BREWING
from orderup.web.app import OrderupApp
from orderup.web.order_keys import new_order_key
from orderup.web.tokens import Role
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.house import ASKED, CHAIN, SECRET, open_test_house, place, settings_for, token_of, until, workshop
from tests.web.sample import serving

# Below it clients know errors in FastAPI's own shape, in place of problems.
TELLS_DETAILS = "/campaigns/api/tasks/"
METHODS = ("get", "put", "post", "patch", "delete")
WEBSOCKET = "WEBSOCKET"
OWNER, STRANGER = "ann", "bob"
PIZZA = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ann"}
BOX = {"user_id": "7c11e1ce2741", "product_code": "classic-box"}
# Of whom and of what the sandbox says nothing, for as long as anybody waits: nothing happens to such an order.
SILENT_BOX = {"user_id": "silent", "product_code": "silent-box"}
# The shops whose routes lie below their names.
SHOPS = ("pizza", "coffee", "mealbox", "bakery", "campaigns")
CAKE = {"name": "Egg Cake", "ingredients": {"eggs": 3, "flour": 100.0}}
EMPLOYEE = {"firstName": "Jack", "lastName": "Harrot", "permissions": {"oven": True}}
# Of a rule at Jira that tells the bakery of issues.
AUTOMATION_SECRET = "a rule tells of it"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """roles: as x-roles has them. is_open: it asks nothing, even a token that expired does not matter. body: the schema
    of what it takes, or None."""

    app: str
    method: str
    path: str
    roles: frozenset[str]
    is_open: bool
    success: int
    operation: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)

    def __str__(self) -> str:
        return f"{self.app} {self.method} {self.path}"

    @property
    def name(self) -> tuple[str, str]:
        return self.method, self.path

    @property
    def is_stream(self) -> bool:
        """Of server-sent events, which do not end."""
        content = self.operation.get("responses", {}).get("200", {}).get("content", {})
        return "text/event-stream" in content

    @property
    def is_page(self) -> bool:
        """Answers with HTML, refusals too."""
        content = self.operation.get("responses", {}).get(str(self.success), {}).get("content", {})
        return "text/html" in content or self.success == 303

    @property
    def tells_details(self) -> bool:
        """Refuses in FastAPI's own shape."""
        return f"{self.path}/".startswith(TELLS_DETAILS)

    @property
    def has_body(self) -> bool:
        """Of JSON."""
        return "application/json" in self.operation.get("requestBody", {}).get("content", {})


def endpoints_of(kind: str, app: OrderupApp) -> Iterator[Endpoint]:
    schema = app.openapi()
    for path, operations in schema["paths"].items():
        for method in METHODS:
            if operation := operations.get(method):
                roles, is_open = frozenset(map(str, operation["x-roles"])), operation["security"] == []
                success = min(int(status) for status in operation["responses"] if status[0] in "23")
                yield Endpoint(kind, method.upper(), path, roles, is_open, success, operation)
    for path, socket in schema["x-websockets"].items():
        yield Endpoint(kind, WEBSOCKET, path, frozenset(map(str, socket["x-roles"])), is_open=False, success=101)


@dataclass(frozen=True, slots=True)
class Ask:
    """What to send. key: of the order's links. form: in place of a body; files: beside its fields. query: without its
    question mark. headers: besides the token."""

    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    key: str | None = None
    form: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, str, str]] | None = None
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def path(self, endpoint: Endpoint) -> str:
        return endpoint.path.format(**self.parameters) + (f"?{self.query}" if self.query else "")


class World:
    """A house with all shops, served, and ways to make what endpoints are about."""

    def __init__(self, house: House, ports: Mapping[str, int]) -> None:
        self.house, self.ports = house, ports
        self.client = httpx2.AsyncClient(timeout=PATIENCE_SECONDS)
        self.barista: asyncio.Task[None] | None = None
        self.endpoints = [*endpoints_of("front", house.front), *endpoints_of("back", house.back)]

    def url(self, app: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[app]}{path}"

    async def send(
        self, app: str, method: str, path: str, *, token: str | None, body: Any = None, **options: Any
    ) -> httpx2.Response:
        headers = {**options.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        content = {} if body is None else {"json": body}
        self.client.cookies.clear()  # who signed in a moment ago is forgotten
        return await self.client.request(method, self.url(app, path), headers=headers, **content, **options)

    async def order(self) -> Ask:
        """A pizza of OWNER's."""
        answer = await self.send("front", "POST", "/pizza/pizzas", token=token_of(Role.CUSTOMER, OWNER), body=PIZZA)
        assert answer.status_code == 202, answer.text
        placed = answer.json()
        return Ask({"id": placed["id"]}, key=placed["links"]["self"].partition("key=")[2])

    async def box(self, wish: Mapping[str, str] = BOX, **headers: str) -> Ask:
        """A meal box of OWNER's."""
        token = token_of(Role.CUSTOMER, OWNER)
        answer = await self.send("front", "POST", "/mealbox/orders", token=token, body=wish, headers=headers)
        assert answer.is_success, answer.text
        placed = answer.json()
        return Ask({"id": placed["id"]}, key=placed["links"]["self"].partition("key=")[2])

    async def cake(self) -> str:
        """The id of a new one."""
        wish = {**CAKE, "name": f"Cake {uuid4().hex}"}
        answer = await self.send("front", "POST", "/bakery/cakes", token=token_of(Role.STAFF), body=wish)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def cake_order(self) -> Ask:
        """Of OWNER's."""
        wish = {"customer": "Ann", "recipe": await self.cake(), "persons": 4}
        token = token_of(Role.CUSTOMER, OWNER)
        answer = await self.send("front", "POST", "/bakery/orders", token=token, body=wish)
        assert answer.status_code == 201, answer.text
        address, _, key = answer.json()["links"]["self"].partition("?key=")
        return Ask({"id": address.rpartition("/")[2]}, key=key)

    async def employee(self) -> str:
        """The id of a new one."""
        answer = await self.send("front", "POST", "/bakery/employees", token=token_of(Role.ADMIN), body=EMPLOYEE)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def operation(self, plan: Plan = CHAIN) -> str:
        return await place(self.house, plan)

    async def held(self) -> tuple[str, str]:
        """Id and token of a task that a worker holds."""
        await self.operation(Plan([PlannedTask("saw")]))
        body = {"worker": "w1", "shop": "workshop", "tasks": ["saw"]}
        answer = await self.send("back", "POST", "/api/work/claim", token=token_of(Role.WORKER), body=body)
        [task] = answer.json()["tasks"]
        return task["id"], task["token"]

    async def work(self, verb: str, task: tuple[str, str], **body: Any) -> None:
        token = token_of(Role.WORKER)
        path = f"/api/work/{task[0]}/{verb}"
        answer = await self.send("back", "POST", path, token=token, body={"token": task[1], **body})
        assert answer.status_code == 200, answer.text

    async def steer(self, id: str, verb: str) -> None:
        answer = await self.send("back", "POST", f"/api/operations/{id}/{verb}", token=token_of(Role.STAFF))
        assert answer.status_code == 200, answer.text

    async def no_barista(self) -> None:
        """Whoever waits for a coffee to be ordered goes home."""
        if self.barista is not None:
            self.barista.cancel()
            await asyncio.wait({self.barista})

    async def coffee(self, **options: Any) -> str:
        """The id of an order that nobody waits for on a connection."""
        await self.no_barista()
        return show_id((await place_order(self.house.engine, "coffee", COFFEE, **options)).id)

    async def brew_one(self) -> str:
        """Start the next coffee, once there is one."""
        claims = await self.house.claim_desk.claim([BREWING], worker="zoe", most=1, wait_seconds=60)
        return show_id(claims[0].operation_id)

    async def serve_one(self) -> None:
        """Start and finish it."""
        id = await self.brew_one()
        path = f"/coffee/finish/?order_id={id}"
        assert (await self.send("back", "POST", path, token=token_of(Role.WORKER))).is_success


Recipe = Callable[[World], Awaitable[Ask]]


async def nothing(_world: World) -> Ask:
    return Ask()


async def order(world: World) -> Ask:
    return await world.order()


async def new_order(_world: World) -> Ask:
    return Ask(body=PIZZA)


async def asked(world: World) -> Ask:
    return Ask({"id": await world.operation(ASKED)})


async def operation(world: World) -> Ask:
    return Ask({"id": await world.operation()})


async def linked(world: World) -> Ask:
    """One with a key, which opens it, though its shop has no links."""
    key = new_order_key(SECRET)
    engine = world.house.engine
    placed = await place_order(engine, "workshop", CHAIN, key_hash=key.hash.hex(), key_salt=key.salt.hex())
    return Ask({"id": show_id(placed.id)}, key=key.text)


async def paused(world: World) -> Ask:
    ask = await operation(world)
    await world.steer(ask.parameters["id"], "pause")
    return ask


async def errored(world: World) -> Ask:
    task = await world.held()
    await world.work("fail", task, error="the saw broke", final=True)
    return Ask({"id": task[0].partition("-")[0]})


async def task(world: World) -> Ask:
    return Ask({"id": f"{await world.operation()}-0"})


async def done_task(world: World) -> Ask:
    """One that can be rerun: nothing that depends on it has started."""
    task = await world.held()
    await world.work("fail", task, error="the saw broke", final=True)
    return Ask({"id": task[0]})


async def claim(world: World) -> Ask:
    await world.operation()
    return Ask(body={"worker": "w1", "shop": "workshop", "tasks": ["saw"]})


def held(**body: Any) -> Recipe:
    async def recipe(world: World) -> Ask:
        id, token = await world.held()
        return Ask({"id": id}, {"token": token, **body})

    return recipe


async def queue(_world: World) -> Ask:
    return Ask({"shop": "workshop", "kind": "polish"})


async def schedule(_world: World) -> Ask:
    return Ask({"shop": "workshop", "name": "nightly"})


async def target(world: World) -> Ask:
    engine = world.house.engine
    await engine.database.write(lambda connection: register_target(connection, "shelf", place="here", position=0))
    return Ask({"target": "shelf"}, form={})


async def delivery(world: World) -> Ask:
    """One that has arrived."""
    await target(world)
    engine = world.house.engine
    [event, *_] = await told(engine, read_id(await world.operation()))
    here, now = Outcome(event.seq, event.operation_id), engine.now()
    await engine.database.write(lambda connection: settle(connection, "shelf", [], told=[event], now=now))
    await engine.database.write(lambda connection: settle(connection, "shelf", [here], now=now))
    return Ask({"id": show_delivery_id(event.seq, "shelf")}, form={})


async def told(engine: Engine, operation_id: int) -> Sequence[Event]:
    """The events of an operation."""
    return await engine.database.read(
        lambda connection: events_between(
            connection, after=0, until=1 << 60, operation_id=operation_id, shop=None, audience=Audience.INTERNAL, most=9
        )
    )


async def queue_button(_world: World) -> Ask:
    return Ask({"shop": "workshop", "kind": "polish"}, form={"verb": "resume"})


async def idle_schedule(world: World) -> Ask:
    """Whose last run is over."""
    engine = world.house.engine
    for row in await engine.database.read(schedule_rows):
        if row["name"] == "workshop/nightly" and row["last_operation_id"] is not None:
            with suppress(Conflict):
                await cancel_operation(engine, row["last_operation_id"], reason="it is over")
    return await schedule(world)


async def schedule_button(_world: World) -> Ask:
    return Ask({"shop": "workshop", "name": "nightly"}, form={"verb": "resume"})


async def file(world: World) -> Ask:
    return Ask({"name": world.house.front.state.site.assets.url("orderup.css").rpartition("/")[2]})


async def new_order_by_form(_world: World) -> Ask:
    return Ask(form=PIZZA)


async def decision(world: World) -> Ask:
    return Ask({"id": await world.operation(ASKED)}, form={"verb": "approve", "notes": "Gladly."})


async def button(world: World) -> Ask:
    return Ask({"id": await world.operation()}, form={"verb": "pause"})


async def task_button(world: World) -> Ask:
    return Ask({"id": f"{await world.operation()}-0"}, form={"verb": "cancel"})


async def station(world: World) -> Ask:
    await world.operation(Plan([PlannedTask("saw")]))
    return Ask({"shop": "workshop", "kind": "saw"}, form={"verb": "take"})


async def station_task(world: World) -> Ask:
    id, token = await world.held()
    return Ask({"id": id}, form={"verb": "done", "token": token, "note": "Four boards."})


async def signing_in(_world: World) -> Ask:
    return Ask(form={"token": token_of(Role.STAFF), "next": "/inbox"})


async def coffee_to_be_served(world: World) -> Ask:
    """A barista waits for it."""
    await world.no_barista()
    world.barista = asyncio.create_task(world.serve_one(), name="barista")
    return Ask()


async def waiting_coffee(world: World) -> Ask:
    await world.coffee()
    return Ask()


async def started_coffee(world: World) -> Ask:
    id = await world.coffee()
    while await world.brew_one() != id:
        continue
    return Ask(query=f"order_id={id}")


async def coffee_order(world: World) -> Ask:
    """OWNER's."""
    key = new_order_key(SECRET)
    id = await world.coffee(owner=OWNER, key_hash=key.hash.hex(), key_salt=key.salt.hex())
    return Ask({"id": id}, key=key.text)


async def coffee_by_form(world: World) -> Ask:
    await world.no_barista()
    return Ask(form={})


async def new_box(_world: World) -> Ask:
    return Ask(body=BOX)


async def box(world: World) -> Ask:
    return await world.box()


async def pending_box(world: World) -> Ask:
    """One that can be cancelled."""
    return await world.box(SILENT_BOX, Prefer="respond-async")


async def box_by_form(_world: World) -> Ask:
    return Ask(form=BOX)


async def new_cake(_world: World) -> Ask:
    return Ask(body={**CAKE, "name": f"Cake {uuid4().hex}"})


async def cake(world: World) -> Ask:
    return Ask({"id": await world.cake()})


async def cake_page(world: World) -> Ask:
    return Ask({"cake": await world.cake()})


async def cake_button(world: World) -> Ask:
    return Ask({"cake": await world.cake()}, form={})


async def cake_by_form(_world: World) -> Ask:
    return Ask(form={"name": f"Cake {uuid4().hex}", "ingredients": "eggs 3 pcs"})


async def new_cake_order(world: World) -> Ask:
    return Ask(body={"customer": "Ann", "recipe": await world.cake(), "persons": 4})


async def cake_order(world: World) -> Ask:
    return await world.cake_order()


async def cake_order_by_form(world: World) -> Ask:
    return Ask({"cake": await world.cake()}, form={"customer": "Ann", "persons": "4"})


async def cake_order_page(world: World) -> Ask:
    return Ask({"number": (await world.cake_order()).parameters["id"]})


async def cake_order_button(world: World) -> Ask:
    return Ask({"number": (await world.cake_order()).parameters["id"]}, form={"verb": "cancel"})


async def issue(world: World) -> Ask:
    """Of the ingredients of an order."""
    await world.cake_order()
    engine = world.house.engine
    placed = await place_order(engine, "bakery", plan_issue())

    async def collected() -> bool | None:
        found = (await engine.database.load([placed.id]))[placed.id]
        return found.tasks[0].status is TaskStatus.COMPLETED or None

    await until(world.house, collected)
    return Ask({"id": show_id(placed.id)})


async def new_employee(_world: World) -> Ask:
    return Ask(body=EMPLOYEE)


async def employee(world: World) -> Ask:
    return Ask({"id": await world.employee()}, body={})


async def dismissal(world: World) -> Ask:
    return Ask({"id": await world.employee()})


async def employee_by_form(_world: World) -> Ask:
    return Ask(form={"first_name": "Jack", "last_name": "Harrot"})


async def employee_button(world: World) -> Ask:
    return Ask({"id": await world.employee()}, form={"first_name": "Jack", "last_name": "Harrot"})


async def jira_hook(_world: World) -> Ask:
    return Ask(body={"issue": {"key": "BAKE-1"}}, headers={"X-Automation-Secret": AUTOMATION_SECRET})


async def new_client_task(_world: World) -> Ask:
    return Ask(body={"status": "Not Started"})


async def client_task(world: World) -> Ask:
    body = {"status": "Not Started"}
    answer = await world.send("front", "POST", "/campaigns/api/tasks", token=token_of(Role.CUSTOMER), body=body)
    assert answer.status_code == 201, answer.text
    return Ask({"id": str(answer.json()["task"]["id"])})


async def client_task_change(world: World) -> Ask:
    return Ask((await client_task(world)).parameters, body={"status": "Completed"})


def campaign_body() -> dict[str, Any]:
    """Of one that there is not yet."""
    return {**CAMPAIGN, "campaign_id": uuid4().hex}


async def new_campaign(_world: World) -> Ask:
    return Ask(body=campaign_body())


async def campaign(world: World) -> Ask:
    """Of OWNER's, with a key. Nothing of it is submitted while somebody looks at it."""
    engine, key, about = world.house.engine, new_order_key(SECRET), parse_campaign(campaign_body())
    await pause_queue(engine, "campaigns/submit", by="ann")

    def write(connection: WriteConnection, operation_id: OperationId) -> None:
        write_row(connection, operation_id, about)

    hashed: dict[str, Any] = {"key_hash": key.hash.hex(), "key_salt": key.salt.hex()}
    plan = plan_campaign(about)
    placed = await place_order(engine, "campaigns", plan, also=write, owner=OWNER, **hashed)
    return Ask({"id": show_id(placed.id)}, key=key.text)


async def campaign_button(world: World) -> Ask:
    return Ask((await campaign(world)).parameters, form={"verb": "pause"})


async def failed_campaign(world: World, memo: str | None = None) -> Ask:
    """Whose first task is errored. memo: of that."""
    found = await campaign(world)
    id = read_id(found.parameters["id"])

    def fail(draft: Draft) -> None:
        now = world.house.engine.now()
        ended = {"due_at": None, "deadline_at": None, "finished_at": now}
        draft.set_task(0, status=TaskStatus.ERRORED, error="it failed", memo=memo, **ended)
        end_if_over(draft, now=now)

    await world.house.engine.desk.decide(id, fail)
    return Ask({**found.parameters, "task_id": f"{found.parameters['id']}-0"}, form={})


async def unknown_campaign(world: World) -> Ask:
    """Of which nobody knows whether the platform has it."""
    return await failed_campaign(world, '{"at": 1}')


async def campaign_to_settle(world: World) -> Ask:
    return Ask((await unknown_campaign(world)).parameters, body={"platform_id": "c-17"})


async def campaign_settled_by_form(world: World) -> Ask:
    return Ask((await unknown_campaign(world)).parameters, form={"is_there": "yes", "platform_id": "c-17"})


async def new_import(_world: World) -> Ask:
    return Ask(form={}, files={"file": ("campaigns.csv", sample(), "text/csv")})


async def an_import(world: World) -> Ask:
    """That is ready."""
    path, file = "/campaigns/campaigns/import", (await new_import(world)).files
    answer = await world.send("front", "POST", path, token=token_of(Role.STAFF), files=file)
    assert answer.status_code == 202, answer.text
    return Ask({"id": answer.json()["id"]})


async def import_button(world: World) -> Ask:
    return Ask((await an_import(world)).parameters, form={"verb": "discard"})


RECIPES: Mapping[tuple[str, str], Recipe] = {
    ("GET", "/healthz"): nothing,
    ("GET", "/readyz"): nothing,
    ("GET", "/openapi.json"): nothing,
    ("GET", "/.well-known/orderup"): nothing,
    ("GET", "/asyncapi.json"): nothing,
    ("GET", "/metrics"): nothing,
    ("GET", "/pizza/menu"): nothing,
    ("POST", "/coffee/order/"): coffee_to_be_served,
    ("GET", "/coffee/start/"): waiting_coffee,
    ("POST", "/coffee/finish/"): started_coffee,
    ("GET", "/coffee/orders/{id}"): coffee_order,
    ("DELETE", "/coffee/orders/{id}"): coffee_order,
    ("GET", "/coffee/orders/{id}/events"): coffee_order,
    (WEBSOCKET, "/coffee/orders/{id}/live"): coffee_order,
    ("GET", "/coffee/"): nothing,
    ("GET", "/coffee/barista"): nothing,
    ("POST", "/coffee/"): coffee_by_form,
    ("GET", "/coffee/track/{id}"): coffee_order,
    ("POST", "/coffee/cancel/{id}"): coffee_order,
    ("POST", "/mealbox/orders"): new_box,
    ("GET", "/mealbox/orders"): nothing,
    ("GET", "/mealbox/orders/{id}"): box,
    ("DELETE", "/mealbox/orders/{id}"): pending_box,
    ("GET", "/mealbox/orders/{id}/events"): box,
    (WEBSOCKET, "/mealbox/orders/{id}/live"): box,
    ("GET", "/mealbox/"): nothing,
    ("POST", "/mealbox/"): box_by_form,
    ("GET", "/mealbox/track/{id}"): box,
    ("POST", "/mealbox/cancel/{id}"): pending_box,
    ("GET", "/mealbox/upstreams"): nothing,
    ("GET", "/mealbox/services"): nothing,
    ("GET", "/bakery/cakes"): nothing,
    ("POST", "/bakery/cakes"): new_cake,
    ("GET", "/bakery/cakes/{id}"): cake,
    ("DELETE", "/bakery/cakes/{id}"): cake,
    ("POST", "/bakery/orders"): new_cake_order,
    ("GET", "/bakery/orders"): nothing,
    ("GET", "/bakery/orders/{id}"): cake_order,
    ("DELETE", "/bakery/orders/{id}"): cake_order,
    ("GET", "/bakery/orders/{id}/ingredients"): cake_order,
    ("POST", "/bakery/orders/{id}/ready"): cake_order,
    ("GET", "/bakery/orders/{id}/events"): cake_order,
    (WEBSOCKET, "/bakery/orders/{id}/live"): cake_order,
    ("GET", "/bakery/employees"): nothing,
    ("POST", "/bakery/employees"): new_employee,
    ("GET", "/bakery/employees/{id}"): dismissal,
    ("PATCH", "/bakery/employees/{id}"): employee,
    ("DELETE", "/bakery/employees/{id}"): dismissal,
    ("POST", "/bakery/hooks/jira"): jira_hook,
    ("GET", "/bakery/"): nothing,
    ("GET", "/bakery/order/{cake}"): cake_page,
    ("POST", "/bakery/order/{cake}"): cake_order_by_form,
    ("POST", "/bakery/order/{cake}/quantities"): cake_order_by_form,
    ("GET", "/bakery/track/{id}"): cake_order,
    ("POST", "/bakery/cancel/{id}"): cake_order,
    ("GET", "/bakery/board"): nothing,
    ("GET", "/bakery/order/{number}"): cake_order_page,
    ("POST", "/bakery/order/{number}"): cake_order_button,
    ("GET", "/bakery/recipes"): nothing,
    ("POST", "/bakery/recipes"): cake_by_form,
    ("GET", "/bakery/recipes/{cake}"): cake_page,
    ("POST", "/bakery/recipes/{cake}/delete"): cake_button,
    ("GET", "/bakery/issues"): nothing,
    ("GET", "/bakery/issues/{id}"): issue,
    ("GET", "/bakery/people"): nothing,
    ("POST", "/bakery/people"): employee_by_form,
    ("GET", "/bakery/people/{id}"): dismissal,
    ("POST", "/bakery/people/{id}"): employee_button,
    ("POST", "/bakery/people/{id}/fire"): dismissal,
    ("GET", "/bakery/services"): nothing,
    ("GET", "/campaigns/api/healthchecker"): nothing,
    ("POST", "/campaigns/api/tasks"): new_client_task,
    ("GET", "/campaigns/api/tasks"): nothing,
    ("GET", "/campaigns/api/tasks/{id}"): client_task,
    ("PATCH", "/campaigns/api/tasks/{id}"): client_task_change,
    ("DELETE", "/campaigns/api/tasks/{id}"): client_task,
    ("POST", "/campaigns/api/tasks/"): new_client_task,
    ("GET", "/campaigns/api/tasks/"): nothing,
    ("GET", "/campaigns/api/tasks/{id}/"): client_task,
    ("PATCH", "/campaigns/api/tasks/{id}/"): client_task_change,
    ("DELETE", "/campaigns/api/tasks/{id}/"): client_task,
    ("POST", "/campaigns/campaigns"): new_campaign,
    ("GET", "/campaigns/campaigns"): nothing,
    ("GET", "/campaigns/campaigns/{id}"): campaign,
    ("DELETE", "/campaigns/campaigns/{id}"): campaign,
    ("GET", "/campaigns/campaigns/{id}/events"): campaign,
    (WEBSOCKET, "/campaigns/campaigns/{id}/live"): campaign,
    ("POST", "/campaigns/campaigns/{id}/tasks/{task_id}/settle"): campaign_to_settle,
    ("POST", "/campaigns/campaigns/import"): new_import,
    ("GET", "/campaigns/campaigns/imports"): nothing,
    ("GET", "/campaigns/campaigns/imports/{id}"): an_import,
    ("GET", "/campaigns/campaigns/imports/{id}/errors.csv"): an_import,
    ("POST", "/campaigns/campaigns/imports/{id}/start"): an_import,
    ("POST", "/campaigns/campaigns/imports/{id}/discard"): an_import,
    ("GET", "/campaigns/"): nothing,
    ("POST", "/campaigns/campaigns/{id}"): campaign_button,
    ("POST", "/campaigns/campaigns/{id}/{task_id}/retry"): failed_campaign,
    ("POST", "/campaigns/campaigns/{id}/{task_id}/settle"): campaign_settled_by_form,
    ("GET", "/campaigns/imports"): nothing,
    ("POST", "/campaigns/imports"): new_import,
    ("GET", "/campaigns/imports/{id}"): an_import,
    ("POST", "/campaigns/imports/{id}"): import_button,
    ("GET", "/campaigns/imports/{id}/errors.csv"): an_import,
    ("GET", "/campaigns/sample.csv"): nothing,
    ("GET", "/campaigns/tasks"): nothing,
    ("GET", "/campaigns/services"): nothing,
    ("POST", "/pizza/pizzas"): new_order,
    ("GET", "/pizza/pizzas/{id}"): order,
    ("DELETE", "/pizza/pizzas/{id}"): order,
    ("GET", "/pizza/pizzas/{id}/events"): order,
    (WEBSOCKET, "/pizza/pizzas/{id}/live"): order,
    ("GET", "/api/rfas"): nothing,
    ("GET", "/api/rfas/{id}"): asked,
    ("POST", "/api/rfas/{id}/approve"): asked,
    ("POST", "/api/rfas/{id}/decline"): asked,
    ("GET", "/api/operations"): nothing,
    ("GET", "/api/operations/{id}"): operation,
    ("POST", "/api/operations/{id}/cancel"): operation,
    ("POST", "/api/operations/{id}/pause"): operation,
    ("POST", "/api/operations/{id}/resume"): paused,
    ("POST", "/api/operations/{id}/retry"): errored,
    ("POST", "/api/operations/{id}/revoke-key"): linked,
    ("GET", "/api/tasks/{id}"): task,
    ("POST", "/api/tasks/{id}/rerun"): done_task,
    ("POST", "/api/tasks/{id}/cancel"): task,
    ("POST", "/api/work/claim"): claim,
    ("POST", "/api/work/{id}/heartbeat"): held(),
    ("POST", "/api/work/{id}/complete"): held(result={"boards": 4}),
    ("POST", "/api/work/{id}/fail"): held(error="the saw broke"),
    ("POST", "/api/work/{id}/wait"): held(seconds=60),
    ("POST", "/api/work/{id}/remember"): held(memo={"boards": 2}),
    ("POST", "/api/work/{id}/hand-back"): held(),
    (WEBSOCKET, "/api/work"): nothing,
    ("GET", "/api/queues"): nothing,
    ("POST", "/api/queues/{shop}/{kind}/pause"): queue,
    ("POST", "/api/queues/{shop}/{kind}/resume"): queue,
    ("GET", "/api/workers"): nothing,
    ("GET", "/api/celery"): nothing,
    ("GET", "/api/schedules"): nothing,
    ("POST", "/api/schedules/{shop}/{name}/pause"): schedule,
    ("POST", "/api/schedules/{shop}/{name}/resume"): schedule,
    ("POST", "/api/schedules/{shop}/{name}/run"): idle_schedule,
    ("GET", "/api/deliveries"): nothing,
    ("POST", "/api/deliveries/{id}/redeliver"): delivery,
    ("POST", "/api/targets/{target}/redeliver"): target,
    ("GET", "/api/events"): nothing,
    (WEBSOCKET, "/api/live"): nothing,
    ("GET", "/"): nothing,
    ("GET", "/static/{name}"): file,
    ("GET", "/pizza/"): nothing,
    ("POST", "/pizza/"): new_order_by_form,
    ("GET", "/pizza/track/{id}"): order,
    ("POST", "/pizza/cancel/{id}"): order,
    ("GET", "/sign-in"): nothing,
    ("POST", "/sign-in"): signing_in,
    ("POST", "/sign-out"): nothing,
    ("GET", "/inbox"): nothing,
    ("POST", "/inbox/{id}"): decision,
    ("GET", "/operations"): nothing,
    ("GET", "/operations/{id}"): operation,
    ("POST", "/operations/{id}"): button,
    ("GET", "/today.csv"): nothing,
    ("POST", "/operations/all/cancel"): nothing,
    ("POST", "/operations/all/pause"): nothing,
    ("POST", "/operations/all/resume"): nothing,
    ("POST", "/operations/all/retry"): nothing,
    ("POST", "/tasks/{id}"): task_button,
    ("GET", "/queues"): nothing,
    ("POST", "/queues/{shop}/{kind}"): queue_button,
    ("GET", "/workers"): nothing,
    ("GET", "/celery"): nothing,
    ("GET", "/schedules"): nothing,
    ("POST", "/schedules/{shop}/{name}"): schedule_button,
    ("GET", "/deliveries"): nothing,
    ("POST", "/deliveries/{id}"): delivery,
    ("POST", "/targets/{target}"): target,
    ("GET", "/station"): nothing,
    ("GET", "/station/{shop}/{kind}"): queue,
    ("POST", "/station/{shop}/{kind}"): station,
    ("GET", "/station/{shop}/{kind}/events"): queue,
    (WEBSOCKET, "/station/{shop}/{kind}/live"): queue,
    ("POST", "/station/{id}"): station_task,
}


@asynccontextmanager
async def open_world(folder: Path, **values: Any) -> AsyncIterator[World]:
    async with open_services() as (sandbox, services):
        settings = settings_for(folder, **services, **values)
        await pause_what_comes_by_itself(settings)
        async with open_served_house(lead_to(sandbox, settings, missing_settings(settings, load_shops([])))) as served:
            world = World(*served)
            async with world.client:
                yield world
                await world.no_barista()


async def pause_what_comes_by_itself(settings: Settings) -> None:
    """Before any clock runs: tests count what is in the log."""
    shops = load_shops([])
    database = open_database(settings.database_url, shops=shops)
    await database.open()
    try:
        engine = make_engine(settings, database, shops)
        polling = next(shop for shop in shops if shop.name == "campaigns").schedules["follow_tasks"]
        await register_schedules(engine, {"campaigns/follow_tasks": polling})
        assert await pause_schedule(engine, "campaigns/follow_tasks", is_paused=True)
    finally:
        await database.close()


@asynccontextmanager
async def open_services() -> AsyncIterator[tuple[Sandbox, Mapping[str, Any]]]:
    """Where third parties are; settings for a meal-box shop whose services answer at once, but for the silent box, and
    of which a complete order is waited for; and for a bakery that Jira may tell of issues."""
    async with serve_sandbox(scale=100) as sandbox:
        sandbox.mealbox.users.switch(SILENT_BOX["user_id"], firstName="Sy", lastName="Lent", body="hang")
        sandbox.mealbox.products.switch(SILENT_BOX["product_code"], name="Silent Box", price=1, body="hang")
        url = f"{sandbox.base_url}/{sandbox.mealbox.name}"
        yield (
            sandbox,
            {
                "user_service_url": url,
                "product_service_url": url,
                "mealbox_wait_seconds": 60,
                "upstream_deadline_seconds": 3600,
                "jira_automation_secret": AUTOMATION_SECRET,
            },
        )


@asynccontextmanager
async def open_served_house(settings: Settings) -> AsyncIterator[tuple[House, Mapping[str, int]]]:
    async with (
        open_test_house(settings, shops=[*load_shops([]), workshop()]) as house,
        serving(house.front, settings) as front,
        serving(house.back, settings) as back,
    ):
        yield house, {"front": front, "back": back}
        house.stop_serving()


def sorted_by_name(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    return sorted(endpoints, key=lambda endpoint: (endpoint.path, endpoint.method))
