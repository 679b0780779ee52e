"""`Idempotency-Key`: a request sent again does nothing again, and is answered with how things stand.

A key is scoped to shop, route and whose it is: the subject of the token, or the address (IPv6: its /64, unless it is an
IPv4 address in disguise). It is stored in the transaction of what it does, so there is no moment in which one is there
without the other; a refused request stores none, and one that is refused only later frees its own. The fingerprint is
of method, path and canonical body.

A route that honours it says so with `takes_key`, for the API's description.
"""

import asyncio
import hashlib
import ipaddress
import re
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from sqlalchemy import delete
from starlette.requests import Request
from starlette.types import Scope

from orderup.db.database import Database, Key, ReadConnection, WriteConnection
from orderup.db.read import find_key
from orderup.db.tables import keys
from orderup.engine.desk import Replayed
from orderup.engine.place import scoped_key
from orderup.errors import Invalid, KeyMisused
from orderup.web.tokens import Caller

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}
LONGEST_KEY = 255
# Printable ASCII with something to see in it: HTTP strips a header's outer spaces.
KEY_PATTERN = "^[ -~]*[!-~][ -~]*$"
# In the table of keys, where a key has to do with no operation.
NO_OPERATION = 0
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def takes_key(endpoint: Endpoint) -> Endpoint:
    """Marks a route that honours `Idempotency-Key`."""
    vars(endpoint)["takes_key"] = True
    return endpoint


def is_keyed(endpoint: object) -> bool:
    return bool(getattr(endpoint, "takes_key", False))


def client_of(scope: Scope, caller: Caller) -> str:
    """Whose request it is: the token's subject, else the address it came from."""
    if caller.subject is not None and caller.jti is not None:
        return f"subject:{caller.subject}"
    client: tuple[str, int] | None = scope.get("client")
    return _client_at(client[0] if client else "unknown")


def plain_address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """IPv4 as such, which a socket for both tells as ::ffff:a.b.c.d, all of it in one /64. Raises ValueError."""
    address = ipaddress.ip_address(host)
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


@lru_cache(maxsize=10_000)
def _client_at(host: str) -> str:
    try:
        address = plain_address(host)
    except ValueError:
        return f"address:{host}"
    if address.version == 6:
        return f"address:{ipaddress.ip_network((address, 64), strict=False)}"
    return f"address:{address}"


def idempotency_key(request: Request, caller: Caller, body: Any, *, now: int, key: str | None = None) -> Key | None:
    """The key of this request, or None if it has none. `key`: what a form carries in place of the header. Raises
    Invalid."""
    values = request.headers.getlist(HEADER) if key is None else [key]
    if not values:
        return None
    key = values[0]
    if len(values) > 1 or len(key) > LONGEST_KEY or not re.search(KEY_PATTERN, key):
        raise Invalid(
            f"{HEADER} must be sent once, with 1 to {LONGEST_KEY} printable ASCII characters, such as a UUID.",
            field=f"header.{HEADER}",
        )
    # A route does not know under which prefix its shop is mounted, and two shops may have one of the same path.
    shop, route = request.app.state.shop_at(request.scope) or "", request.scope["route"].path
    canonical = msgspec.json.encode([request.method, request.url.path, body], order="sorted")
    fingerprint = hashlib.sha256(canonical).hexdigest()
    return Key(scoped_key(shop, route, client_of(request.scope, caller), key=key), fingerprint, now)


def take_key(connection: WriteConnection, key: Key | None, *, operation_id: int) -> None:
    """Store the key, in the transaction of what it does. Raises Replayed or KeyMisused if it was used before."""
    if key is None:
        return
    row = {**msgspec.structs.asdict(key), "operation_id": operation_id}
    if not connection.insert_or_ignore(keys, row):
        _refuse_taken(connection, key)


def free_key(connection: WriteConnection, key: Key, *, operation_id: int) -> None:
    """What it placed turned out to be none: whoever was refused may send it with another body. Another operation's key
    stays taken."""
    connection.execute(delete(keys).where(keys.c.key == key.key, keys.c.operation_id == operation_id))


def _refuse_taken(connection: ReadConnection, key: Key) -> None:
    taken = find_key(connection, key.key)
    if taken is not None:
        raise Replayed(taken.operation_id) if taken.fingerprint == key.fingerprint else KeyMisused


async def once(database: Database, key: Key | None, do: Callable[[], Awaitable[object]], *, turn: asyncio.Lock) -> bool:
    """Do what is about no operation, and does no harm when it is done twice, such as pausing a queue; whether it was
    done, or else the key was used before for the same.

    The key is stored after it: should the process die in between, the request was not answered, and what is sent again
    is done again. `turn`: of the process, for such requests. Raises KeyMisused.
    """
    if key is None:
        await do()
        return True
    async with turn:
        try:
            await database.read(lambda connection: _refuse_taken(connection, key))
            await do()
            await database.write(lambda connection: take_key(connection, key, operation_id=NO_OPERATION))
        except Replayed:
            return False
    return True
