"""A WebSocket that is refused before it is accepted: its caller gets a problem, and the server's log no error."""

import asyncio
import io
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from orderup.settings import LogFormat
from orderup.web.logs import configure_logs
from orderup.web.tokens import Role
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.endpoints import STRANGER, World, open_world
from tests.web.house import token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
NOBODYS = "/pizza/pizzas/0000000000000/live"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("refused"), max_header_bytes=4096) as world:
        yield world


async def refusal_of(world: World, app: str, path: str, token: str | None, **headers: str) -> InvalidStatus:
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    with pytest.raises(InvalidStatus) as refused:
        async with connect(world.url(app, path).replace("http", "ws", 1), additional_headers=headers):
            pass
    return refused.value


async def until_logged(stream: io.StringIO, count: int) -> list[dict[str, object]]:
    """All lines, once so many are of sockets. What the server has to say of one comes in the same moment."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while stream.getvalue().count('"event": "websocket"') < count:  # noqa: ASYNC110  a log tells nobody
            await asyncio.sleep(0.01)
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("app", "path", "role", "status"),
    [
        ("front", NOBODYS, None, 401),
        ("front", f"{NOBODYS}?key=guess", None, 404),
        ("front", NOBODYS, Role.CUSTOMER, 404),
        ("front", f"{NOBODYS}?after=-1", Role.CUSTOMER, 422),
        ("back", "/api/live", Role.CUSTOMER, 403),
        ("back", "/api/live?operation=nobody", Role.STAFF, 404),
        ("back", "/api/work", None, 401),
        ("back", f"/api/live?shop={'x' * 4096}", Role.STAFF, 431),
        ("back", "/api/live?shop=%00", Role.STAFF, 400),
    ],
)
async def test_a_socket_that_is_refused_gets_a_problem_and_logs_no_error(
    world: World, stream: io.StringIO, app: str, path: str, role: Role | None, status: int
) -> None:
    configure_logs(world.house.settings.model_copy(update={"log_format": LogFormat.JSON}), stream=stream)
    refused = await refusal_of(world, app, path, None if role is None else token_of(role, STRANGER))
    assert refused.response.status_code == status
    assert refused.response.headers["content-type"] == "application/problem+json"
    assert json.loads(refused.response.body or b"")["status"] == status
    [line] = await until_logged(stream, 1)
    assert (line["level"], line["accepted"]) == ("info", False)


async def test_a_socket_to_nowhere_or_of_a_foreign_page_logs_no_error(world: World, stream: io.StringIO) -> None:
    configure_logs(world.house.settings.model_copy(update={"log_format": LogFormat.JSON}), stream=stream)
    token = token_of(Role.STAFF)
    assert (await refusal_of(world, "back", "/nowhere", token)).response.status_code == 403
    foreign = await refusal_of(world, "back", "/api/live", token, Origin="https://elsewhere.example")
    assert foreign.response.status_code == 403
    assert {line["level"] for line in await until_logged(stream, 2)} == {"info"}
