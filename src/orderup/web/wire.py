"""The connection under a request, as far as a route may know it: whether its caller is gone, and how to hang up on him.

ASGI has no word for closing a connection without an answer. Our server (server.py) puts it into the scope; under
another one `hang_up` says that it could not.
"""

from collections.abc import Iterable
from typing import Protocol

from starlette.types import Scope

WIRE_KEY = "orderup.wire"
HUNG_UP_KEY = "orderup.hung_up"


class Wire(Protocol):
    def hang_up(self) -> None: ...
    def is_gone(self) -> bool: ...

    def answer(self, scope: Scope, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bool:
        """Write a whole answer at once, whose headers are known to be good; False if it must be sent the usual way."""
        ...


def hang_up(scope: Scope) -> bool:
    """Close the connection without an answer; whether it could be done. The route then returns."""
    wire: Wire | None = scope.get(WIRE_KEY)
    if wire is None:
        return False
    scope[HUNG_UP_KEY] = True
    wire.hang_up()
    return True


def was_hung_up(scope: Scope) -> bool:
    return HUNG_UP_KEY in scope


def is_gone(scope: Scope) -> bool:
    """Whether the caller is known to be gone."""
    wire: Wire | None = scope.get(WIRE_KEY)
    return wire is not None and wire.is_gone()
