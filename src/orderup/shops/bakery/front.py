"""The bakery's routes: cakes, orders and the people who work there. Who may do what stands at each."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from orderup.db.database import WriteConnection
from orderup.errors import Conflict, Invalid, NotFound
from orderup.integrations.mail import ADDRESS
from orderup.model import work
from orderup.model.ids import show_id
from orderup.model.one_line import one_line
from orderup.model.operation import Draft, Operation
from orderup.model.slug import slug
from orderup.model.task import TaskStatus
from orderup.model.times import show_time
from orderup.shops.bakery.amounts import Amount, JsonAmount, as_json, as_recipe
from orderup.shops.bakery.cakes import Cake, add_cake, cakes_by_number, delete_cake, list_cakes, read_cake
from orderup.shops.bakery.orders import (
    Added,
    BakeryOrder,
    OrderStatus,
    Wanted,
    add_order,
    check_cancel,
    find_operation,
    list_orders,
    new_order,
    order_of,
)
from orderup.shops.bakery.plan import BAKE, plan_order, shop
from orderup.web import (
    OPEN,
    AsAnyone,
    AsCustomer,
    AsOrderCaller,
    AsStaff,
    Caller,
    Json,
    PlacedOrder,
    RequestModel,
    Router,
    add_order_routes,
    engine_of,
    find_order,
    place,
    takes_key,
)
from orderup.web.orders import resources_of
from orderup.web.paging import CursorFilter, Limit, read_cursor, show_cursor
from orderup.web.tokens import Role

PATH = "orders"
LONGEST_NAME, LONGEST_EMAIL = 200, 254
# Of a claim that ends in the moment in which it is made.
LEASE_US = 60_000_000
MOST_INGREDIENTS, MOST_EATERS, MOST_CAKES = 100, 10_000, 10_000
CAKE: JsonDict = {
    "name": "Chocolate Cake",
    "ingredients": {"chocolate": 33.5, "butter": 16.5, "flour": 8.5, "sugar": 16.5, "eggs": 1},
}
ORDER: JsonDict = {
    "customer": "Mr. Cakelover",
    "recipe": "chocolate_cake",
    "persons": 4,
    "quantity": 2,
    "extra_ingredients": {"peanuts": 10},
}
front = Router(tags=["bakery"])


def read_name(text: str) -> str:
    """On one line. Raises ValueError if no id can be made of it."""
    name = one_line(text)
    try:
        slug(name)
    except Invalid as error:
        raise ValueError(str(error)) from error
    return name


def read_ingredients(given: Mapping[str, Amount]) -> Mapping[str, Amount]:
    """Their names on one line. Raises ValueError."""
    named = {one_line(name): amount for name, amount in given.items()}
    if len(named) < len(given):
        raise ValueError("names an ingredient twice")
    for name in named:
        if not 0 < len(name) <= LONGEST_NAME:
            raise ValueError(f"has an ingredient whose name does not have 1 to {LONGEST_NAME} characters")
    return named


def read_email(text: str) -> str:
    """Raises ValueError if no mail could be sent there."""
    if not ADDRESS.fullmatch(text):
        raise ValueError("is no address that mail can be sent to")
    return text


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(read_name)]
# One address and nothing else: no name, no second one, no line of a header.
EMAIL = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+$"
Email = Annotated[str, Field(max_length=LONGEST_EMAIL, pattern=EMAIL), AfterValidator(read_email)]
Recipe = Annotated[
    dict[str, JsonAmount], Field(min_length=1, max_length=MOST_INGREDIENTS), AfterValidator(read_ingredients)
]
Extras = Annotated[dict[str, JsonAmount], Field(max_length=MOST_INGREDIENTS), AfterValidator(read_ingredients)]


class CakeBody(RequestModel):
    """ingredients: for one eater; a weight in grams has a point, a number of pieces none."""

    model_config = ConfigDict(json_schema_extra={"examples": [CAKE]})

    name: Name
    ingredients: Recipe


class OrderBody(RequestModel):
    """recipe: a cake's id. persons: eaters of each of the cakes. extra_ingredients: once, for all of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [ORDER]})

    customer: Name
    recipe: Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
    persons: Annotated[int, Field(ge=1, le=MOST_EATERS)]
    quantity: Annotated[int, Field(ge=1, le=MOST_CAKES)] = 1
    extra_ingredients: Extras = Field(default_factory=dict)
    email: Email | None = None


class CakeView(BaseModel):
    id: str
    name: str
    ingredients: dict[str, float | int]


class CakeList(BaseModel):
    cakes: list[CakeView]


class Ingredient(BaseModel):
    """unit: g or pcs."""

    name: str
    quantity: float | int
    unit: str


class IngredientList(BaseModel):
    ingredients: list[Ingredient]


class OrderView(BaseModel):
    """customer and email are null once they were forgotten. issue: by which its ingredients are ordered. reason: why it
    was cancelled."""

    id: int
    status: OrderStatus
    customer: str | None
    email: str | None
    recipe: str
    cake: str
    persons: int
    quantity: int
    extra_ingredients: dict[str, float | int]
    placed_at: str
    finished_at: str | None
    issue: str | None
    reason: str | None


class Links(BaseModel):
    """They carry the order's key: whoever has them may read, follow and cancel this order."""

    self: str
    live: str
    events: str
    cancel: str


class PlacedOrderView(OrderView):
    links: Links


class OrderList(BaseModel):
    orders: list[OrderView]
    cursor: str | None


def view_cake(cake: Cake) -> dict[str, Any]:
    return {"id": cake.id, "name": cake.name, "ingredients": as_recipe(cake.recipe)}


@front.get("/cakes", response_model=CakeList, dependencies=[OPEN], summary="All cakes with their recipes")
async def get_cakes(request: Request) -> Response:
    found = await engine_of(request).database.read(list_cakes)
    return Json({"cakes": [view_cake(cake) for cake in found]})


@front.get("/cakes/{id}", response_model=CakeView, dependencies=[OPEN], summary="A cake with its recipe")
async def get_cake(request: Request, id: str) -> Response:
    return Json(view_cake(await engine_of(request).database.read(lambda connection: read_cake(connection, id))))


@front.post("/cakes", status_code=201, response_model=CakeView, summary="Write a recipe")
async def post_cake(request: Request, _caller: AsStaff, body: CakeBody) -> Response:
    return Json(view_cake(await write_recipe(request, body.name, body.ingredients)), status_code=201)


async def write_recipe(request: Request, name: str, recipe: Mapping[str, Amount]) -> Cake:
    """Raises Conflict if there is a cake of that id."""
    engine = engine_of(request)
    return await engine.database.write(lambda connection: add_cake(connection, name, recipe, now=engine.now()))


@front.delete("/cakes/{id}", status_code=204, summary="Delete a cake of which no order is open")
async def remove_cake(request: Request, _caller: AsStaff, id: str) -> Response:
    engine = engine_of(request)
    await engine.database.write(lambda connection: delete_cake(connection, id, now=engine.now()))
    return Response(status_code=204)


@front.post("/orders", status_code=201, response_model=PlacedOrderView, summary="Order a cake")
@takes_key
async def post_order(request: Request, caller: AsAnyone, body: OrderBody) -> Response:
    wanted = Wanted(body.recipe, body.customer, body.persons, body.quantity, body.email, body.extra_ingredients)
    placed, added = await _place_cake(request, caller, wanted, body=body.model_dump(mode="json"))
    if added is None:
        shown = await view_order(request, placed.operation)
    else:
        shown = show_order(new_order(placed.operation, wanted, added, name=await _name_of(request, added.cake)))
    return Json({**shown, "links": placed.links}, status_code=201, headers=placed.headers)


async def order_cake(
    request: Request, caller: Caller, wanted: Wanted, *, body: Any, key: str | None = None
) -> PlacedOrder:
    """Raises Invalid if there is no such cake."""
    placed, _ = await _place_cake(request, caller, wanted, body=body, key=key)
    return placed


async def _place_cake(
    request: Request, caller: Caller, wanted: Wanted, *, body: Any, key: str | None = None
) -> tuple[PlacedOrder, Added | None]:
    """With what was added; None: the same request had placed it before."""
    added: list[Added] = []

    def add_row(connection: WriteConnection, operation_id: int) -> None:
        added.append(add_order(connection, operation_id, wanted))

    try:
        placed = await place(
            request, caller, shop.name, plan_order(wanted.to_bake), body=body, path=PATH, also=add_row, key=key
        )
    except NotFound as error:
        raise Invalid(f"{error} GET /cakes lists those that there are.", field="body.recipe") from error
    # it may have run more than once; what it wrote last is what stayed
    return placed, None if placed.is_replay else added[-1]


async def _name_of(request: Request, cake: int) -> str:
    """A recipe never changes, so that its name is looked up once."""
    names: dict[int, str] = resources_of(request, shop.name).cake_names
    if cake not in names:
        found = await engine_of(request).database.read(lambda connection: cakes_by_number(connection, [cake]))
        names[cake] = found[cake].name
    return names[cake]


async def view_order(request: Request, operation: Operation) -> dict[str, Any]:
    return show_order(await order_at(request, operation))


async def order_at(request: Request, operation: Operation) -> BakeryOrder:
    """Raises NotFound for an operation that is none of a customer's."""
    found = await engine_of(request).database.read(lambda connection: order_of(connection, operation.id))
    if found is None:
        raise NotFound("order", show_id(operation.id))
    return found


def show_order(order: BakeryOrder) -> dict[str, Any]:
    return {
        "id": order.number,
        "status": order.status,
        "customer": order.customer,
        "email": order.email,
        "recipe": order.cake.id,
        "cake": order.cake.name,
        "persons": order.persons,
        "quantity": order.quantity,
        "extra_ingredients": as_recipe(order.extras),
        "placed_at": show_time(order.placed_at),
        "finished_at": show_time(order.finished_at),
        "issue": order.issue,
        "reason": order.reason if order.status == "cancelled" else None,
    }


@front.get("/orders", response_model=OrderList, summary="Orders, the newest first; a customer's token: his own")
async def get_orders(
    request: Request,
    caller: AsCustomer,
    status: OrderStatus | None = None,
    cursor: CursorFilter = None,
    limit: Limit = 50,
) -> Response:
    owner = None if caller.has(Role.STAFF) else caller.subject or ""
    [beyond] = read_cursor(cursor) or (None,)
    found = await engine_of(request).database.read(
        lambda connection: list_orders(connection, status=status, owner=owner, beyond=beyond, most=limit + 1)
    )
    more = show_cursor(found[limit - 1].operation_id) if len(found) > limit else None
    return Json({"orders": [show_order(order) for order in found[:limit]], "cursor": more})


@front.get("/orders/{id}/ingredients", response_model=IngredientList, summary="What an order needs")
async def get_ingredients(request: Request, caller: AsOrderCaller, id: str) -> Response:
    order = await order_at(request, await find_order(request, caller, shop.name, id))
    return Json({"ingredients": as_json(order.ingredients)})


@front.post("/orders/{id}/ready", response_model=OrderView, summary="It is ready: its customer is told")
async def post_ready(request: Request, caller: AsStaff, id: str) -> Response:
    operation = await find_order(request, caller, shop.name, id)
    await flag_ready(request, caller, operation)
    return Json(await view_order(request, operation))


async def flag_ready(request: Request, caller: Caller, operation: Operation) -> None:
    """Whoever has baked it. Raises Conflict if it is ready already, or will never be."""
    engine = engine_of(request)

    def finish(draft: Draft) -> None:
        bake = next((task for task in draft.tasks() if task.name == BAKE), None)
        if bake is None:
            raise NotFound("order", show_id(operation.id))
        if bake.status is TaskStatus.COMPLETED:
            raise Conflict("This order is ready already; its customer is told once.")
        if draft.status.is_final:
            raise Conflict(f"This order is {draft.status}: it cannot become ready.")
        if not bake.attempt:
            # nobody has taken it at a station: whoever says that it is ready has baked it
            who, token = caller.subject or "staff", uuid4().hex
            work.start(draft, bake.position, worker=who, token=token, now=engine.now(), lease_us=LEASE_US)
        work.complete_late(draft, bake.position, result=None, now=engine.now())

    await engine.desk.decide(operation.id, finish)


add_order_routes(
    front, shop.name, path=PATH, view=view_order, model=OrderView, check_cancel=check_cancel, find=find_operation
)
