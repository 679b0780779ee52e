"""One coffee, ordered: what the route that waits for it and the page have in common."""

from collections.abc import Callable

from orderup.db.database import Key, WriteConnection
from orderup.engine.place import place_order
from orderup.model.ids import OperationId
from orderup.model.operation import Operation
from orderup.shops.coffee.bar import Bar
from orderup.shops.coffee.plan import COFFEE, shop
from orderup.web import Caller
from orderup.web.order_keys import OrderKey
from orderup.web.tokens import Role


def owner_of(caller: Caller) -> str | None:
    return caller.subject if caller.has(Role.CUSTOMER) and caller.jti is not None else None


async def place_coffee(
    bar: Bar,
    operation_id: OperationId,
    *,
    client: str,
    owner: str | None,
    key: Key | None = None,
    also: Callable[[WriteConnection, OperationId], None] | None = None,
    opener: OrderKey | None = None,
) -> Operation:
    """An order of this client, whom the bar has let in and noted; his connection or page is held by this process.
    `opener`: of the key in his links.

    Raises IdTaken, Replayed, KeyMisused, Unavailable, and what `also` does.
    """
    return await place_order(
        bar.engine,
        shop.name,
        COFFEE,
        key=key,
        also=also,
        owner=owner,
        client=client,
        held_by=bar.process,
        operation_id=operation_id,
        key_hash=opener.hash.hex() if opener else None,
        key_salt=opener.salt.hex() if opener else None,
    )
