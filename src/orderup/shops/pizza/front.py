"""The pizzeria's routes for customers."""

from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from orderup.db.database import WriteConnection
from orderup.engine.engine import Engine
from orderup.errors import Conflict
from orderup.model.ids import show_id
from orderup.model.operation import Draft, Operation
from orderup.model.placing import encode
from orderup.model.times import show_time
from orderup.shops.pizza.expected import expected_delivery, read_pace
from orderup.shops.pizza.plan import DEFAULT_REGION, TIERS, PizzaOrder, create_pizza
from orderup.shops.pizza.status import status_of
from orderup.shops.pizza.tables import add_order, read_order
from orderup.web import (
    OPEN,
    AsAnyone,
    Caller,
    Json,
    OrderView,
    PlacedOrder,
    RequestModel,
    Router,
    add_order_routes,
    place,
    takes_key,
    view_order,
)
from orderup.web.orders import engine_of

PATH = "pizzas"
MOST_WISHES_BYTES = 10_000
# What Python calls space, and other languages do not, counts as space.
NOT_ONLY_SPACE = r"[^\s\x1c-\x1f]"
STRIP = AfterValidator(str.strip)
EXAMPLE: JsonDict = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
front = Router(tags=["pizza"])


def _check_wishes(wishes: dict[str, Any]) -> dict[str, Any]:
    size = len(encode(wishes).encode())
    if size > MOST_WISHES_BYTES:
        raise ValueError(f"is {size:,} bytes of JSON; at most {MOST_WISHES_BYTES:,} are taken")
    return wishes


def _text(longest: int) -> Any:
    """As long as it was sent, and not only space: so the schema says all. STRIP comes after it."""
    return Field(min_length=1, max_length=longest, pattern=NOT_ONLY_SPACE)


class Wanted(BaseModel):
    """What every order says. name: of the pizza. tier: see the menu."""

    name: Annotated[str, _text(100), STRIP]
    tier: Literal["basic", "standard", "premium"]
    delivery_address: Annotated[str, _text(500), STRIP]
    customer: Annotated[str, _text(200), STRIP]


class PizzaBody(Wanted, RequestModel):
    """name: of the pizza. tier: see the menu. region: whose workers make it. extra_params: wishes, at most 10 kB."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    region: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,49}$")] = DEFAULT_REGION
    extra_params: Annotated[dict[str, Any], AfterValidator(_check_wishes)] = Field(default_factory=dict)


class Links(BaseModel):
    """They carry the order's key: whoever has them may read, follow and cancel this order."""

    self: str
    live: str
    events: str
    cancel: str


class PlacedPizza(BaseModel):
    """rfa_id: of the request for approval that staff answers."""

    id: str
    rfa_id: str
    status: str
    links: Links


class Tier(BaseModel):
    tier: str
    toppings: list[str]


class Menu(BaseModel):
    tiers: list[Tier]


class ExpectedDelivery(BaseModel):
    """The moments by which half and nine tenths of such orders are delivered."""

    median_at: str
    ninety_percent_at: str


class PizzaView(OrderView):
    """What the customer wrote is null once it was forgotten, expected_delivery once nobody can tell: it has ended, or
    is on hold."""

    rfa_id: str
    name: str | None
    tier: str
    region: str
    delivery_address: str | None
    customer: str | None
    extra_params: dict[str, Any] | None
    expected_delivery: ExpectedDelivery | None


@front.get("/menu", response_model=Menu, dependencies=[OPEN], summary="What there is")
async def get_menu() -> Response:
    return Json({"tiers": [{"tier": name, "toppings": recipe.toppings} for name, recipe in TIERS.items()]})


@front.post("/pizzas", status_code=202, response_model=PlacedPizza, summary="Order a pizza")
@takes_key
async def order_pizza(request: Request, caller: AsAnyone, body: PizzaBody) -> Response:
    placed = await place_pizza(request, caller, body)
    return placed.answer(rfa_id=show_id(placed.operation.id), status=status_of(placed.operation))


async def place_pizza(request: Request, caller: Caller, body: PizzaBody, *, key: str | None = None) -> PlacedOrder:
    """`key`: of the form it was written in, so that sent twice it is ordered once."""
    order = PizzaOrder(**body.model_dump())

    def add_row(connection: WriteConnection, operation_id: int) -> None:
        add_order(connection, operation_id, order)

    plan, written = create_pizza(order), body.model_dump()
    return await place(request, caller, "pizza", plan, body=written, path=PATH, also=add_row, key=key)


async def view_pizza(request: Request, operation: Operation) -> dict[str, Any]:
    engine = engine_of(request)
    row = await engine.database.read(lambda connection: read_order(connection, operation.id))
    told = await view_order(request, operation)
    return {
        **told,
        **row,
        "rfa_id": told["id"],
        "status": status_of(operation),
        "expected_delivery": await _expected(engine, operation),
    }


async def _expected(engine: Engine, operation: Operation) -> dict[str, Any] | None:
    if operation.status.is_final:
        return None
    now = engine.now()
    pace = await engine.database.read(lambda connection: read_pace(connection, operation, now=now))
    expected = expected_delivery(operation, pace, now=now)
    return expected and {"median_at": show_time(expected[0]), "ninety_percent_at": show_time(expected[1])}


def check_cancel(draft: Draft) -> None:
    """Raises Conflict once baking has begun: the pizza is made, whoever eats it."""
    if any(task.name == "bake_pizza" and task.attempt for task in draft.tasks()):
        raise Conflict("Your pizza is in the oven or past it: it cannot be cancelled any more.")


add_order_routes(front, "pizza", path=PATH, view=view_pizza, model=PizzaView, check_cancel=check_cancel)
