"""With SECRET_KEY a worker is who its token says."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
import pytest
import structlog
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect

from orderup.errors import Forbidden, Refused, Unauthenticated
from orderup.web.tokens import Role, mint_token
from orderup.worker import Task, Worker
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess
from tests.worker.conftest import QUICK, forge_server, working
from tests.worker.visitor import Visitor, until

SECRET = SecretStr("a-key-of-thirty-two-characters-or-more")
WORKER_TOKEN = "hammer-and-tongs"


def token(role: Role, *, life: timedelta = timedelta(days=1), **scope: str) -> str:
    return mint_token(SECRET, role, "ann", now=datetime.now(UTC), life=life, **scope).text


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {**QUICK, "SECRET_KEY": SECRET.get_secret_value(), "WORKER_TOKEN": WORKER_TOKEN}
    with forge_server(tmp_path_factory.mktemp("closed"), environment=environment).start() as server:
        yield server


def worker_of(server: ServerProcess, transport: str, **options: Any) -> Worker:
    worker = Worker("forge", server=server.back, transport=transport, **options)  # type: ignore[arg-type]

    @worker.task("hammer")
    async def hammer(task: Task) -> str:
        return task.id

    return worker


@pytest.mark.parametrize("given", [WORKER_TOKEN, "of a worker", "of a worker of this region"])
async def test_a_worker_with_a_good_token_may_work(closed_server: ServerProcess, transport: str, given: str) -> None:
    async with Visitor(closed_server.front, closed_server.back) as visitor:
        visitor.client.headers["Authorization"] = f"Bearer {token(Role.STAFF)}"
        made = {
            "of a worker": partial(token, Role.WORKER),
            "of a worker of this region": partial(token, Role.WORKER, shop="forge", region=visitor.region),
        }
        bearer = made[given]() if given in made else given
        worker = worker_of(closed_server, transport, region=visitor.region, token=bearer)
        async with working(worker):
            await visitor.until(await visitor.order(), "completed")


@pytest.mark.parametrize(
    ("bearer", "kind", "words"),
    [
        (None, Unauthenticated, "This needs a token"),
        ("guessed", Unauthenticated, "not valid here"),
        (token(Role.CUSTOMER), Forbidden, "yours is of customer"),
        (token(Role.WORKER, shop="pizza"), Forbidden, "for pizza only"),
        (token(Role.WORKER, region="north"), Forbidden, "region north only"),
    ],
)
async def test_a_worker_without_one_ends_with_the_reason(
    closed_server: ServerProcess, transport: str, bearer: str | None, kind: type[Refused], words: str
) -> None:
    worker = worker_of(closed_server, transport, region="south", token=bearer)
    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(kind, match=words):
                await worker.serve()
    # it held nothing: nothing is told of what it held
    assert [line for line in lines if line["log_level"] not in ("debug", "info")] == []


async def test_a_token_that_expires_counts_no_longer_on_a_socket_that_is_open(closed_server: ServerProcess) -> None:
    bearer = token(Role.WORKER, life=timedelta(seconds=4))
    url = f"ws{closed_server.back.removeprefix('http')}/api/work"
    async with connect(url, additional_headers={"Authorization": f"Bearer {bearer}"}, proxy=None) as socket:
        assert await status_of_a_heartbeat(socket) == 404
        await until(partial(status_of_a_heartbeat, socket), lambda status: status == 401, what="it has expired")


async def status_of_a_heartbeat(socket: ClientConnection) -> int:
    """404: it was let in, there is only no such task."""
    await socket.send('{"id": 1, "verb": "heartbeat", "task": "x", "body": {"token": "x"}}')
    status: int = msgspec.json.decode(await socket.recv())["status"]
    return status
