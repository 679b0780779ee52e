"""What every shop's front does alike: place an order, find it again for its customer, give him his links."""

from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import HTTPConnection, Request

from orderup.db.database import ReadConnection, WriteConnection
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.errors import NotFound
from orderup.model.ids import OperationId, read_id, show_id
from orderup.model.operation import Operation
from orderup.model.plan import Plan
from orderup.settings import Settings
from orderup.web.app import Json
from orderup.web.idempotency import REPLAYED, idempotency_key
from orderup.web.live import Check
from orderup.web.logs import note_about
from orderup.web.order_keys import has_this_hash, may_see_order, new_order_key, order_key
from orderup.web.tokens import Caller, Role

Rows = Callable[[WriteConnection, OperationId], None]
# The operation of an order that people call by a number.
FindByNumber = Callable[[ReadConnection, int], OperationId | None]
# Where the orders of each shop are, relative to its root, and how those with a number are found: noted when its routes
# are written (order_routes.py).
PATHS: dict[str, str] = {}
NUMBERED: dict[str, FindByNumber] = {}
# With one more it would be as long as an operation's id.
LONGEST_NUMBER = 12


def engine_of(connection: HTTPConnection) -> Engine:
    engine: Engine = connection.app.state.engine
    return engine


def keeper_of(connection: HTTPConnection, shop: str) -> Any:
    """What the shop keeps running in this process."""
    return connection.app.state.keepers[shop]


def resources_of(connection: HTTPConnection, shop: str) -> Any:
    """What the shop's handlers share in this process."""
    return connection.app.state.resources[shop]


class PlacedOrder:
    """`is_replay`: the same request was sent before, and this is what became of its order."""

    def __init__(self, operation: Operation, *, links: Mapping[str, str], is_replay: bool) -> None:
        self.operation, self.links, self.is_replay = operation, links, is_replay

    @property
    def headers(self) -> dict[str, str]:
        replayed = REPLAYED if self.is_replay else {}
        return {"Location": self.links["self"], **replayed}

    def answer(self, **more: Any) -> Json:
        """202 with the order's id, how it stands and its links; `more` adds to it or says it in the shop's words."""
        told = {"id": show_id(self.operation.id), "status": self.operation.status, "links": self.links}
        return Json({**told, **more}, status_code=202, headers=self.headers)


async def place(
    request: Request,
    caller: Caller,
    shop: str,
    plan: Plan,
    *,
    body: Any,
    path: str,
    also: Rows | None = None,
    key: str | None = None,
    operation_id: OperationId | None = None,
) -> PlacedOrder:
    """Place an order of this caller, once for each `Idempotency-Key`: mark the route with `takes_key`. `path`: of the
    order's resource, relative to the shop's root, such as `pizzas`. `also` writes the shop's own row in the same
    transaction. `key`: a form's, in place of the header's. `operation_id`: drawn before, by whoever is to hear of it.

    Raises KeyMisused, Unavailable.
    """
    engine, settings = engine_of(request), settings_of(request)
    secret = settings.secret_key
    opener = None if secret is None else new_order_key(secret)
    owner = caller.subject if caller.has(Role.CUSTOMER) and caller.jti is not None else None
    try:
        operation = await place_order(
            engine,
            shop,
            plan,
            key=idempotency_key(request, caller, body, now=engine.now(), key=key),
            also=also,
            owner=owner,
            operation_id=operation_id,
            key_hash=opener.hash.hex() if opener else None,
            key_salt=opener.salt.hex() if opener else None,
        )
        is_replay = False
    except Replayed as replayed:
        operation, is_replay = await load(engine, replayed.operation_id), True
    note_about(request.scope, show_id(operation.id))
    return PlacedOrder(operation, links=links_of(request, operation, path=path), is_replay=is_replay)


async def load(engine: Engine, operation_id: int, *, what: str = "operation") -> Operation:
    """`what`: its caller's word for it. Raises NotFound."""
    operation = (await engine.database.load([operation_id])).get(operation_id)
    if operation is None:
        raise NotFound(what, show_id(operation_id))
    return operation


async def find_order(connection: HTTPConnection, caller: Caller, shop: str, id: str) -> Operation:
    """The operation of an order that this caller may see. Raises NotFound, for those that he may not, too."""
    operation_id = await _operation_id(engine_of(connection), shop, id)
    operation = await load(engine_of(connection), operation_id, what="order")
    if operation.shop != shop:
        raise NotFound("order", id)
    if settings_of(connection).secret_key is None:
        return operation
    is_allowed = may_see_order(
        caller,
        shop=shop,
        owner=operation.owner,
        key=connection.query_params.get("key"),
        key_hash=bytes.fromhex(operation.key_hash) if operation.key_hash else None,
    )
    if not is_allowed:
        raise NotFound("order", id)
    return operation


async def _operation_id(engine: Engine, shop: str, id: str) -> OperationId:
    """Of an order's number, where the shop has numbers, or of its operation's id. Raises NotFound."""
    find = NUMBERED.get(shop)
    if find is None or len(id) > LONGEST_NUMBER or not id.isascii() or not id.isdigit():
        return read_id(id, what="order")
    found = await engine.database.read(lambda connection: find(connection, int(id)))
    if found is None:
        raise NotFound("order", id)
    return found


def stays_open(connection: HTTPConnection, caller: Caller, operation: Operation) -> Check | None:
    """For whoever follows an order that `find_order` found: raises NotFound once his key was revoked. None if it is not
    by a key that he sees it."""
    shop, owner, key_hash = operation.shop, operation.owner, operation.key_hash
    if settings_of(connection).secret_key is None or key_hash is None:
        return None
    if may_see_order(caller, shop=shop, owner=owner, key=None, key_hash=None):
        return None
    database = engine_of(connection).database

    async def check() -> None:
        if not await database.read(lambda connection: has_this_hash(connection, operation.id, key_hash)):
            raise NotFound("order", show_id(operation.id))

    return check


def links_of(connection: HTTPConnection, operation: Operation, *, path: str) -> dict[str, str]:
    """Links for the customer. They carry the key, which is the only place where a key appears."""
    settings = settings_of(connection)
    key = ""
    if settings.secret_key is not None and operation.key_salt and operation.key_hash:
        key = f"?key={order_key(settings.secret_key, bytes.fromhex(operation.key_salt))}"
    base = f"{base_of(connection, operation.shop)}/{path}/{show_id(operation.id)}"
    websocket = "ws" + base.removeprefix("http")
    return {
        "self": f"{base}{key}",
        "live": f"{websocket}/live{key}",
        "events": f"{base}/events{key}",
        "cancel": f"{base}{key}",
    }


def base_of(connection: HTTPConnection, shop: str) -> str:
    """Where customers reach this shop's front, without a slash at the end."""
    state = connection.app.state
    mounted: str = state.shop_prefixes[shop]
    own = state.front_url if state.kind == "back" else str(connection.base_url)
    root: str = settings_of(connection).public_url or own
    return f"{root.rstrip('/')}{mounted}"


def settings_of(connection: HTTPConnection) -> Settings:
    settings: Settings = connection.app.state.settings
    return settings
