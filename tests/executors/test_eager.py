"""Coroutines that begin in a task they share, and keep it once they wait."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest

from orderup.executors.eager import EagerTask, EagerTasks

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class Stage:
    def __init__(self) -> None:
        self.eager = EagerTasks(asyncio.get_running_loop())
        self.told: list[str] = []
        self.tasks: dict[str, list[asyncio.Task[Any] | None]] = {}
        self.may_go_on = asyncio.Event()
        self.over, self._happened = asyncio.Event(), asyncio.Event()

    def tell(self, words: str) -> None:
        self.told.append(words)
        self._happened.set()

    async def until(self, fact: Callable[[], bool]) -> None:
        while not fact():
            self._happened.clear()
            await self._happened.wait()

    def start(self, name: str, play: Callable[[str], Coroutine[Any, Any, None]]) -> EagerTask:
        return self.eager.start(play(name), lambda: name)

    def note(self, name: str) -> None:
        self.tell(name)
        self.tasks.setdefault(name, []).append(asyncio.current_task())

    async def at_once(self, name: str) -> None:
        self.note(name)

    async def waits(self, name: str) -> None:
        self.note(name)
        try:
            await self.may_go_on.wait()
        except asyncio.CancelledError:
            self.tell(f"{name} is cancelled")
            self.over.set()
            raise
        self.note(name)

    async def ends(self, name: str) -> None:
        self.note(name)
        self.over.set()


async def test_those_that_do_not_wait_share_a_task() -> None:
    stage = Stage()
    for name in "abc":
        stage.start(name, stage.at_once)
    stage.start("end", stage.ends)
    assert stage.told == []
    await stage.over.wait()
    assert stage.told == ["a", "b", "c", "end"]
    assert len({task for tasks in stage.tasks.values() for task in tasks}) == 1


async def test_one_that_waits_keeps_its_task_and_others_go_on_in_another() -> None:
    stage = Stage()
    stage.start("a", stage.waits)
    stage.start("b", stage.waits)
    stage.start("end", stage.ends)
    await stage.over.wait()
    assert stage.told == ["a", "b", "end"]
    stage.may_go_on.set()
    await stage.until(lambda: len(stage.told) == 5)
    for name in "ab":
        before, after = stage.tasks[name]
        assert before is after
        assert before is not None
        assert before.get_name() == name
    [a, b, end] = [stage.tasks[name][0] for name in ("a", "b", "end")]
    assert len({a, b, end}) == 3


async def test_cancelling_meets_the_one_that_waits_and_no_other() -> None:
    stage = Stage()
    first = stage.start("a", stage.waits)
    stage.start("b", stage.waits)
    stage.start("end", stage.ends)
    await stage.over.wait()
    stage.over.clear()
    assert first.cancel()
    await stage.over.wait()
    assert stage.told == ["a", "b", "end", "a is cancelled"]
    stage.may_go_on.set()
    await stage.until(lambda: stage.told[-1] == "b")
    assert not first.cancel()


async def test_one_that_is_cancelled_before_it_begins_never_does() -> None:
    stage = Stage()
    first = stage.start("a", stage.at_once)
    stage.start("end", stage.ends)
    assert not first.cancel()
    assert not first.has_begun
    await stage.over.wait()
    assert stage.told == ["end"]


async def test_each_has_a_context_of_its_own_to_its_end() -> None:
    stage = Stage()

    async def play(name: str) -> None:
        stage.tell(whose.get())
        whose.set(name)
        await asyncio.sleep(0)
        stage.tell(whose.get())

    whose.set("the starter's")
    stage.start("a", play)
    stage.start("b", play)
    await stage.until(lambda: len(stage.told) == 4)
    assert sorted(stage.told) == ["a", "b", "the starter's", "the starter's"]
    assert whose.get() == "the starter's"


async def test_a_cancellation_that_one_left_behind_meets_nobody_else() -> None:
    stage = Stage()

    async def cancels_itself(name: str) -> None:
        stage.note(name)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    stage.start("a", cancels_itself)
    stage.start("b", stage.waits)
    stage.start("end", stage.ends)
    await stage.over.wait()
    stage.may_go_on.set()
    await stage.until(lambda: stage.told.count("b") == 2)
    assert stage.told == ["a", "b", "end", "b"]


async def test_what_one_raises_does_not_keep_others_from_beginning() -> None:
    stage = Stage()
    loop = asyncio.get_running_loop()
    heard: list[BaseException] = []
    loop.set_exception_handler(lambda _, about: heard.append(about["exception"]))

    async def fails(name: str) -> None:
        stage.note(name)
        raise RuntimeError(name)

    stage.start("a", fails)
    stage.start("end", stage.ends)
    await stage.over.wait()
    assert stage.told == ["a", "end"]


@pytest.mark.parametrize("waits", [False, True])
async def test_who_wants_to_know_when_it_waits_is_told_in_its_task(*, waits: bool) -> None:
    stage = Stage()
    told: list[asyncio.Task[Any] | None] = []
    started = stage.start("a", stage.waits if waits else stage.at_once)
    started.when_it_waits = lambda: told.append(asyncio.current_task())
    stage.start("end", stage.ends)
    await stage.over.wait()
    assert told == ([stage.tasks["a"][0]] if waits else [])
    stage.may_go_on.set()
    await asyncio.sleep(0)
