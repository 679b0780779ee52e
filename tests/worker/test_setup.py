"""A worker that makes no sense is told so before it begins."""

import subprocess
import sys
from typing import Any

import pytest

from orderup.errors import Misconfigured
from orderup.shop import TaskContext
from orderup.worker import Task, Worker
from orderup.worker.link import Claim
from tests.serving import ROOT


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": 101}, "1 to 100 tasks"),
        ({"transport": "pigeon"}, 'neither "http" nor "websocket"'),
        ({"server": "localhost:8001"}, "no address such as http://localhost:8001"),
        ({"server": "https://"}, "no address such as"),
    ],
)
def test_values_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        Worker("forge", **options)


def test_a_function_that_would_block_everything_is_refused() -> None:
    worker = Worker("forge")

    def hammer(_task: Task) -> None: ...

    with pytest.raises(Misconfigured, match="hammer is not async"):
        worker.task()(hammer)  # type: ignore[type-var]  # that is what is tested


def test_an_object_that_is_called_may_do_the_work() -> None:
    worker = Worker("forge")

    class Smith:
        async def __call__(self, task: Task) -> str:
            return task.id

    smith = Smith()
    assert worker.task("hammer")(smith) is smith
    assert worker.functions == {"hammer": smith}


async def test_a_handler_may_be_a_worker_function() -> None:
    worker = Worker("forge")

    @worker.task()
    async def hammer(context: TaskContext) -> str:
        return context.task_id

    claim = Claim("0-0", "hammer", "hammer", "0", {"metal": "iron"}, {}, None, 1, "token", 30)
    given: TaskContext = Task(claim, remember=forget)
    assert await hammer(given) == "0-0"
    assert given.params == {"metal": "iron"}


async def forget(_memo: Any) -> None: ...


def test_one_kind_has_one_function() -> None:
    worker = Worker("forge")

    async def hammer(_task: Task) -> None: ...

    worker.task()(hammer)
    with pytest.raises(Misconfigured, match="hammer has two functions"):
        worker.task("hammer")(hammer)


async def test_a_worker_without_a_function_has_nothing_to_do() -> None:
    with pytest.raises(Misconfigured, match="no function"):
        await Worker("forge").serve()


def test_two_workers_are_never_named_alike_by_themselves() -> None:
    assert len({Worker("forge").name for _ in range(100)}) == 100


def test_a_worker_needs_neither_the_database_nor_the_web_server() -> None:
    code = (
        "import sys, orderup.worker, orderup.worker.socket_link\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'fastapi', 'starlette', 'uvicorn', 'sqlalchemy', 'asyncpg', 'psycopg', 'pydantic', 'alembic'}))\n"
        "print(sorted(name for name in sys.modules if name.startswith('orderup.') and name.split('.')[1] in"
        " {'db', 'engine', 'web', 'shops', 'executors', 'cli'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert done.stdout == "[]\n[]\n"
