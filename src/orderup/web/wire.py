"""The connection under a request, as far as a route may know it: whether its caller is gone, and how to hang up on him.

ASGI has no word for closing a connection without an answer. Our server (server.py) puts it into the scope; under
another one `hang_up` says that it could not.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from starlette.types import Receive, Scope

WIRE_KEY = "orderup.wire"
HUNG_UP_KEY = "orderup.hung_up"
Tell = Callable[[], object]


class Wire(Protocol):
    def hang_up(self) -> None: ...
    def is_gone(self) -> bool: ...
    def give_time(self) -> None:
        """For the rest of the body, as much as there was for all of it."""
        ...

    def when_gone(self, tell: Tell | None) -> None:
        """Call `tell`, once, when the caller of the request that runs is gone; None: nobody wants to know any more."""
        ...

    def answer(self, scope: Scope, status: int, lines: bytes, body: bytes) -> bool:
        """Write a whole answer at once. `lines`: headers as they are sent, each with its line's end, known to be good,
        `content-length` among them if there is a body. False if it must be sent the usual way."""
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


@contextmanager
def told_when_gone(scope: Scope, receive: Receive, tell: Tell) -> Iterator[None]:
    """`tell` is called, once, if the caller goes away meanwhile. To be used once the body was read."""
    wire: Wire | None = scope.get(WIRE_KEY)
    if wire is not None:
        wire.when_gone(tell)
        try:
            yield
        finally:
            wire.when_gone(None)
        return
    watching = asyncio.create_task(_tell_when_gone(receive, tell), name="watch the caller")
    try:
        yield
    finally:
        watching.cancel()


async def _tell_when_gone(receive: Receive, tell: Tell) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    tell()


def give_time(scope: Scope) -> None:
    """A large body is on its way and gets on: its time begins anew."""
    wire: Wire | None = scope.get(WIRE_KEY)
    if wire is not None:
        wire.give_time()
