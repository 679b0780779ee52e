"""A platform that does what it is asked, and says strange things about it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from orderup.sandbox.app import build_app
from orderup.sandbox.dsp import Dsp
from orderup.sandbox.server import listen, serve_app
from orderup.sandbox.service import Asked, Call, Said
from orderup.shops.campaigns import shop
from tests.shops.served import Served, serve_shop

# Of what it honestly says, what it says instead.
Twist = Callable[[Any], Any]


class OddPlatform(Dsp):
    """`twists`: by the name of the call; each call has taken effect before."""

    def __init__(self) -> None:
        super().__init__(scale=1)
        self.twists: dict[str, Twist] = {}

    def calls(self) -> list[Call]:
        return [replace(call, work=self._oddly(call)) for call in super().calls()]

    def _oddly(self, call: Call) -> Callable[[Asked], Said]:
        def work(asked: Asked) -> Said:
            said, twist = call.work(asked), self.twists.get(call.name)
            return said if twist is None else replace(said, json=twist(said.json))

        return work


@asynccontextmanager
async def serve_beside(platform: OddPlatform, database_url: str, **settings: Any) -> AsyncIterator[Served]:
    """The campaign desk, led to this platform."""
    with listen(0) as listener:
        async with serve_app(build_app([], [platform]), listener):
            dsp_url = f"http://127.0.0.1:{listener.getsockname()[1]}/dsp"
            async with serve_shop(shop, database_url, dsp_url=dsp_url, **settings) as served:
                yield served


def always(said: Any) -> Twist:
    return lambda _honest: said


def in_turn(*twists: Twist) -> Twist:
    """Each of them once, then honestly."""
    left = list(reversed(twists))
    return lambda honest: left.pop()(honest) if left else honest


def with_fields(**fields: Any) -> Twist:
    """An object with other values, or a list of such."""

    def change(honest: Any) -> Any:
        return [{**each, **fields} for each in honest] if isinstance(honest, list) else {**honest, **fields}

    return change


def without(*names: str) -> Twist:
    def change(honest: Mapping[str, Any]) -> Any:
        return {name: value for name, value in honest.items() if name not in names}

    return change
