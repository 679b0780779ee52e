"""What a shop may be called, and what is refused before it serves anybody."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import pytest

from orderup.errors import Misconfigured
from orderup.shop import Shop


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "lower-case letters"), ("Tea", "lower-case letters"), ("té", "lower-case letters"), ("t" * 31, "than 30")],
)
def test_a_shop_has_a_short_name_of_plain_letters(name: str, words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        Shop(name)
    assert Shop("t" * 30).title == "T" + "t" * 29


async def bake(_context: object) -> None: ...


def note(_connection: object, _context: object) -> None: ...


async def cook(_connection: object, _context: object, *, _with: str) -> None: ...


class Oven:
    async def __call__(self, _context: object) -> None: ...

    async def bake(self, _context: object) -> None: ...

    def note(self, _connection: object, _context: object) -> None: ...


class Book:
    def __call__(self, _connection: object, _context: object) -> None: ...


@pytest.mark.parametrize("handler", [bake, Oven(), Oven().bake, partial(bake), partial(Oven()), partial(partial(bake))])
def test_whatever_can_be_awaited_when_it_is_called_is_a_handler(handler: Any) -> None:
    shop = Shop("shop")
    shop.handler("bake")(handler)
    assert shop.handlers == {"bake": handler}


@pytest.mark.parametrize("step", [note, Book(), Oven().note, partial(note), partial(Book()), lambda *_: None])
def test_whatever_ends_when_it_is_called_is_a_step(step: Any) -> None:
    shop = Shop("shop")
    shop.step("note")(step)
    assert shop.steps == {"note": step}


def test_a_function_that_is_async_only_inside_of_a_decorators_is_a_handler() -> None:
    @wraps(bake)
    def timed(context: object) -> Any:
        return bake(context)

    shop = Shop("shop")
    shop.handler()(timed)
    assert shop.handlers == {"bake": timed}


@pytest.mark.parametrize("handler", [note, Book(), partial(note), print])
def test_a_handler_that_is_not_async_is_refused_when_it_is_declared(handler: Any) -> None:
    shop = Shop("shop")
    with pytest.raises(Misconfigured, match=r"Shop shop: the handler of bake is not async\. Write it as async def"):
        shop.handler("bake")(handler)
    assert (shop.handlers, shop.kinds) == ({}, {})


@pytest.mark.parametrize("step", [bake, Oven(), Oven().bake, partial(bake), partial(cook, _with="salt")])
def test_a_step_that_is_async_is_refused_when_it_is_declared(step: Any) -> None:
    shop = Shop("shop")
    with pytest.raises(Misconfigured, match=r"Shop shop: the step of note is an async function\. Write it as a plain"):
        shop.step("note")(step)
    assert (shop.steps, shop.kinds) == ({}, {})


@pytest.mark.parametrize("decorator", ["handler", "step"])
def test_what_cannot_be_called_is_refused_when_it_is_declared(decorator: str) -> None:
    with pytest.raises(Misconfigured, match="of bake is no function, but 'oven'"):
        getattr(Shop("shop"), decorator)("bake")("oven")


@pytest.mark.parametrize(("decorator", "function"), [("handler", bake), ("step", note)])
def test_a_decorator_without_its_parentheses_is_refused(decorator: str, function: Any) -> None:
    with pytest.raises(Misconfigured, match=rf"write @shop\.{decorator}\(\) with its parentheses"):
        getattr(Shop("shop"), decorator)(function)


@pytest.mark.parametrize(
    "declare",
    [
        lambda shop: shop.handler("bake", retries=3)(bake),
        lambda shop: shop.step("bake", retries=3)(note),
        lambda shop: shop.remote("bake", retries=3),
        lambda shop: shop.remote("bake", retries=3, has_handler=True),
    ],
)
def test_an_option_that_no_kind_has_is_refused_by_name_with_those_there_are(declare: Callable[[Shop], Any]) -> None:
    shop = Shop("shop")
    with pytest.raises(Misconfigured, match=r"Shop shop: the kind of task bake has no option retries.*retry, within"):
        declare(shop)
    assert shop.kinds == {}


def test_an_option_that_no_schedule_has_is_refused_by_name_with_those_there_are() -> None:
    with pytest.raises(Misconfigured, match=r"the schedule daily has no option at\. There are: every, cron, zone"):
        Shop("shop").schedule("daily", at="8:00")
