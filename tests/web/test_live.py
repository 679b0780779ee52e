"""Following the log by WebSocket and by server-sent events, over real servers."""

import asyncio
import gc
import json
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from orderup.engine.feed import MOST_HELD, Follower
from orderup.engine.prune import prune
from orderup.model.plan import Plan, PlannedTask
from orderup.web.tokens import Role
from tests.services.waiting import PATIENCE_SECONDS
from tests.web.endpoints import OWNER, STRANGER, World, open_world
from tests.web.house import token_of

pytestmark = pytest.mark.asyncio(loop_scope="module")
LARGEST_FRAME = 64 << 10
# A close frame's first bytes: what it is, and code 1002; between them its length.
PROTOCOL_ERROR = b"\x03\xea"
SHAPE = {"seq", "n", "at", "type", "operation_id", "shop", "task", "status", "message"}
HOW = ["websocket", "sse"]
Event = dict[str, Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("live")) as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def own_world(tmp_path: Path) -> AsyncIterator[World]:
    """With a log that nobody else writes to."""
    async with open_world(tmp_path) as world:
        yield world


def bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


async def by_websocket(world: World, app: str, path: str, token: str | None) -> AsyncGenerator[Event, None]:
    url = world.url(app, path).replace("http", "ws", 1)
    async with connect(url, additional_headers=bearer(token), max_queue=None) as socket:
        async for message in socket:
            yield json.loads(message)


async def by_sse(world: World, app: str, path: str, token: str | None) -> AsyncGenerator[Event, None]:
    async with world.client.stream("GET", world.url(app, path), headers=bearer(token)) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        id = ""
        async for line in answer.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                id = value
            elif name == "data":
                event: Event = json.loads(value)
                assert id == str(event["seq"])
                yield event


FOLLOW: dict[str, Callable[[World, str, str, str | None], AsyncGenerator[Event, None]]] = {
    "websocket": by_websocket,
    "sse": by_sse,
}


def staff_path(how: str, *, after: int = 0, operation: str | None = None, shop: str | None = None) -> str:
    query = f"after={after}" + (f"&operation={operation}" if operation else "") + (f"&shop={shop}" if shop else "")
    return f"/api/{'live' if how == 'websocket' else 'events'}?{query}"


def customer_path(how: str, id: str, **query: object) -> str:
    tail = "&".join(f"{name}={value}" for name, value in query.items())
    return f"/pizza/pizzas/{id}/{'live' if how == 'websocket' else 'events'}?{tail}"


async def take(following: AsyncGenerator[Event, None], most: int) -> list[Event]:
    """So many events, then the connection is closed."""
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(following):
        while len(events) < most:
            events.append(await anext(following))
    return events


def glued(tasks: int) -> Plan:
    """Done by the server itself, at once. Two events a task, and two more."""
    return Plan.chain(*(PlannedTask(f"glue_{number}", kind="glue") for number in range(tasks)))


async def until_log_has(world: World, seq: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await world.house.database.end_of_log() < seq:  # noqa: ASYNC110  asks the log itself, not a follower
            await asyncio.sleep(0.02)


def seqs(events: Sequence[Event]) -> list[int]:
    return [event["seq"] for event in events]


@pytest.mark.parametrize("how", HOW)
async def test_whoever_reconnects_with_after_gets_every_event_once(own_world: World, how: str) -> None:
    world, random, expected = own_world, Random(7), 20 * 12
    token = token_of(Role.STAFF)

    async def produce() -> None:
        for _ in range(20):
            await world.operation(glued(5))
            await asyncio.sleep(0)

    async def steady() -> list[Event]:
        return await take(FOLLOW[how](world, "back", staff_path(how, shop="workshop"), token), expected)

    async def restless() -> tuple[list[Event], int]:
        events: list[Event] = []
        connections = 0
        while len(events) < expected:
            most = min(random.randint(5, 12), expected - len(events))
            path = staff_path(how, after=events[-1]["seq"] if events else 0, shop="workshop")
            events += await take(FOLLOW[how](world, "back", path, token), most)
            connections += 1
        return events, connections

    _, first, second, (torn, connections) = await asyncio.gather(produce(), steady(), steady(), restless())
    assert connections >= 20
    assert first == second == torn
    assert seqs(torn) == sorted(set(seqs(torn)))
    assert {frozenset(event) for event in torn} == {frozenset(SHAPE)}
    by_operation: dict[str, list[int]] = {}
    for event in torn:
        by_operation.setdefault(event["operation_id"], []).append(event["n"])
    assert all(numbers == list(range(1, 13)) for numbers in by_operation.values())


@pytest.mark.parametrize("how", HOW)
async def test_one_operation_and_one_shop_can_be_followed_alone(own_world: World, how: str) -> None:
    world, token = own_world, token_of(Role.STAFF)
    one, other = await world.operation(glued(3)), await world.operation(glued(3))
    order = await world.order()
    await until_log_has(world, 17)
    told = await take(FOLLOW[how](world, "back", staff_path(how, operation=other), token), 8)
    assert {event["operation_id"] for event in told} == {other}
    told = await take(FOLLOW[how](world, "back", staff_path(how, shop="workshop"), token), 16)
    assert {event["operation_id"] for event in told} == {one, other}
    scoped = token_of(Role.STAFF, shop="pizza")
    [told_pizza] = await take(FOLLOW[how](world, "back", staff_path(how), scoped), 1)
    assert told_pizza["operation_id"] == order.parameters["id"]


@pytest.mark.parametrize("how", HOW)
async def test_a_customer_follows_his_order_in_words_for_him(world: World, how: str) -> None:
    order = await world.order()
    id = order.parameters["id"]
    path = customer_path(how, id, after=0, key=order.key)
    following = asyncio.create_task(take(FOLLOW[how](world, "front", path, None), 2))
    await world.send("back", "POST", f"/api/rfas/{id}/decline", token=token_of(Role.STAFF), body={"notes": "no flour"})
    placed, declined = await following
    assert (placed["type"], placed["message"]) == ("operation.placed", "Request received")
    assert declined["type"] == "rfa.declined"
    assert "no flour" in declined["message"]
    assert set(declined) == SHAPE


async def status_of(world: World, app: str, path: str, *, token: str | None, **headers: str) -> int:
    """Of a WebSocket's handshake."""
    url = world.url(app, path).replace("http", "ws", 1)
    try:
        async with connect(url, additional_headers={**bearer(token), **headers}, max_queue=None):
            return 101
    except InvalidStatus as refused:
        # told in the body, too: it is the problem that a request would get
        status: int = json.loads(refused.response.body or b"{}")["status"]
        return status if status == refused.response.status_code else 0


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("https://127.0.0.1.evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1:1", 403),
        ("file://", 403),
        ("{own}", 101),
    ],
)
async def test_a_page_of_another_origin_opens_no_socket(world: World, origin: str, status: int) -> None:
    order = await world.order()
    paths = [
        ("back", "/api/live", token_of(Role.STAFF)),
        ("back", "/api/work", token_of(Role.WORKER)),
        ("front", customer_path("websocket", order.parameters["id"], key=order.key), None),
    ]
    for app, path, token in paths:
        sent = origin.replace("{own}", world.url(app, ""))
        assert await status_of(world, app, path, token=token, Origin=sent) == status, path


async def test_a_socket_without_a_token_or_key_is_refused_before_it_opens(world: World) -> None:
    order = await world.order()
    path = customer_path("websocket", order.parameters["id"], after=0)
    assert await status_of(world, "back", "/api/live", token=None) == 401
    assert await status_of(world, "back", "/api/work", token=None) == 401
    assert await status_of(world, "front", path, token=None) == 401
    assert await status_of(world, "front", f"{path}&key=guess", token=None) == 404
    assert await status_of(world, "front", path, token=token_of(Role.CUSTOMER, STRANGER)) == 404
    assert await status_of(world, "front", path, token=token_of(Role.CUSTOMER, OWNER)) == 101


@pytest.mark.parametrize("after", ["x", "-1", "1.5", "9223372036854775808", "", "null"])
async def test_an_after_that_is_no_seq_is_422_before_it_opens(world: World, after: str) -> None:
    order = await world.order()
    token = token_of(Role.STAFF)
    for app, path in (
        ("back", f"/api/live?after={after}"),
        ("front", customer_path("websocket", order.parameters["id"], after=after)),
    ):
        assert await status_of(world, app, path, token=token) == 422, path


async def test_an_after_in_the_future_waits_for_it(world: World) -> None:
    url = world.url("back", f"/api/live?after={(1 << 63) - 1}").replace("http", "ws", 1)
    async with connect(url, additional_headers=bearer(token_of(Role.STAFF))) as socket:
        await world.operation(glued(2))
        pong = await socket.ping()
        await pong
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await socket.recv()


async def test_a_frame_above_64_kib_closes_the_socket(world: World) -> None:
    order = await world.order()
    for app, path, token in (
        ("back", "/api/live", token_of(Role.STAFF)),
        ("back", "/api/work", token_of(Role.WORKER)),
        ("front", customer_path("websocket", order.parameters["id"], key=order.key), None),
    ):
        url = world.url(app, path).replace("http", "ws", 1)
        async with connect(url, additional_headers=bearer(token), max_queue=None) as socket:
            await socket.send("x" * (LARGEST_FRAME + 1))
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(read_until_closed(socket), PATIENCE_SECONDS)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009, path


async def read_until_closed(socket: ClientConnection) -> None:
    while True:
        await socket.recv()


async def test_what_a_follower_sends_is_ignored(world: World) -> None:
    url = world.url("back", "/api/live").replace("http", "ws", 1)
    async with connect(url, additional_headers=bearer(token_of(Role.STAFF)), max_queue=None) as socket:
        for frame in ("", "{", "x" * LARGEST_FRAME, b"\xff\x00"):
            await socket.send(frame)
        id = await world.operation(glued(1))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while json.loads(await socket.recv())["operation_id"] != id:
                continue


async def test_bytes_that_are_no_websocket_frame_end_only_their_own_socket(world: World) -> None:
    request = (
        f"GET /api/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {token_of(Role.STAFF)}\r\n\r\n"
    ).encode()
    for junk in (b"\xff" * 100, b"\x81\x00", b"\x8f\xff" + b"\xff" * 20, b"GET / HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["back"])
        async with asyncio.timeout(PATIENCE_SECONDS):
            writer.write(request)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            writer.write(junk)
            assert PROTOCOL_ERROR in await reader.read(), junk
        writer.close()
    assert (await world.send("back", "GET", "/healthz", token=None)).status_code == 200


async def test_what_is_past_retention_is_told_so(own_world: World) -> None:
    world, token = own_world, token_of(Role.STAFF)
    for _ in range(3):
        await world.operation(glued(2))
    await until_log_has(world, 18)
    assert await prune(world.house.engine, before=world.house.engine.now() + 1) == 3
    url = world.url("back", "/api/live?after=17").replace("http", "ws", 1)
    async with connect(url, additional_headers=bearer(token)) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4410
    assert "after it" in closed.value.rcvd.reason
    gone = await world.send("back", "GET", "/api/events?after=17", token=token)
    assert gone.status_code == 410
    assert gone.json()["type"] == "urn:orderup:problem:gone"
    last = await world.send("back", "GET", "/api/events", token=token, headers={"Last-Event-ID": "17"})
    assert last.status_code == 410
    new = await world.operation(glued(1))
    for how in HOW:
        told = await take(FOLLOW[how](world, "back", staff_path(how, after=18), token), 4)
        assert {event["operation_id"] for event in told} == {new}


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / (1 << 20)


async def open_and_never_read(world: World, how: str) -> socket.socket:
    """A follower whose machine takes a few kilobytes and then stands still."""
    upgrade = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        if how == "websocket"
        else ""
    )
    request = (
        f"GET {staff_path(how)} HTTP/1.1\r\nHost: 127.0.0.1\r\n{upgrade}"
        f"Authorization: Bearer {token_of(Role.STAFF)}\r\n\r\n"
    )
    sleeper = socket.socket()
    sleeper.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.setblocking(False)  # noqa: FBT003  its only argument
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sleeper, ("127.0.0.1", world.ports["back"]))
    await loop.sock_sendall(sleeper, request.encode())
    return sleeper


@pytest.mark.parametrize("how", HOW)
async def test_followers_that_never_read_cost_memory_that_does_not_grow(own_world: World, how: str) -> None:
    world, token = own_world, token_of(Role.STAFF)
    sleepers = [await open_and_never_read(world, how) for _ in range(20)]
    try:
        await produce(world, 30)
        before = resident_mib()
        await produce(world, 150)
        grown = resident_mib() - before
        held = [len(each.held) for each in gc.get_objects() if type(each) is Follower]
        awake = await take(FOLLOW[how](world, "back", staff_path(how), token), 180 * 42)
    finally:
        for sleeper in sleepers:
            sleeper.close()
    assert len(held) >= 20
    assert max(held) <= MOST_HELD
    # Written to sockets without waiting, 150 × 42 messages for each of 20 would be 30 MiB.
    assert grown < 15, f"{grown:.1f} MiB"
    assert seqs(awake) == list(range(1, 180 * 42 + 1))


async def produce(world: World, operations: int) -> None:
    """42 events each."""
    end = await world.house.database.end_of_log() + operations * 42
    plan = glued(20)

    async def place() -> None:
        await world.operation(plan)

    waiting: list[Awaitable[None]] = [place() for _ in range(operations)]
    await asyncio.gather(*waiting)
    await until_log_has(world, end)


async def test_one_who_reads_slowly_gets_all_of_it(own_world: World) -> None:
    world = own_world
    url = world.url("back", staff_path("websocket")).replace("http", "ws", 1)
    async with connect(url, additional_headers=bearer(token_of(Role.STAFF)), max_queue=1) as socket:
        first = json.loads(await asyncio.wait_for(_first_of(world, socket), PATIENCE_SECONDS))
        await produce(world, 100)
        events = [first]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while events[-1]["seq"] < 101 * 42:
                events.append(json.loads(await socket.recv()))
    assert seqs(events) == list(range(1, 101 * 42 + 1))


async def _first_of(world: World, socket: ClientConnection) -> str | bytes:
    await produce(world, 1)
    message: str | bytes = await socket.recv()
    return message


async def test_a_server_that_stops_tells_its_followers_to_come_again(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        url = world.url("back", "/api/live").replace("http", "ws", 1)
        headers = bearer(token_of(Role.STAFF))
        async with (
            connect(url, additional_headers=headers) as socket,
            world.client.stream("GET", world.url("back", "/api/events"), headers=headers) as stream,
        ):
            world.house.stop_serving()
            with pytest.raises(ConnectionClosed) as closed:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await socket.recv()
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert await read_to_the_end(stream) == b"retry: 1000\n\n"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_nonsense_behind_a_request_is_not_answered_in_the_middle_of_the_stream(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["back"])
    token = token_of(Role.STAFF)
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE_SECONDS):
        begun = await reader.readuntil(b"retry: 1000\n\n")
        writer.write(b"\x00nonsense\r\n\r\n")
        rest = await reader.read()
    writer.close()
    assert begun.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1" not in rest
    assert b"problem" not in rest


async def read_to_the_end(stream: httpx2.Response) -> bytes:
    return b"".join([part async for part in stream.aiter_raw()])


async def test_the_api_tells_of_last_event_id_where_it_counts(world: World) -> None:
    telling = {
        endpoint.path
        for endpoint in world.endpoints
        if "Last-Event-ID" in [each["name"] for each in endpoint.operation.get("parameters", ())]
    }
    assert telling == {endpoint.path for endpoint in world.endpoints if endpoint.is_stream}
    assert len(telling) >= 2
