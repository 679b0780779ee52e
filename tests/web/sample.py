"""An app with a route of every kind, and ways to reach it: in this process, or over a real server on a free port."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NoReturn

import httpx2
import uvicorn
from fastapi import Form, WebSocket
from pydantic import Field, SecretStr
from starlette.requests import Request
from starlette.responses import StreamingResponse

from orderup import errors
from orderup.sandbox.server import stop_listening
from orderup.settings import Settings
from orderup.web.app import MountedShop, OrderupApp, Readiness, always_ready, build_app, nobody_is_revoked
from orderup.web.auth import OPEN, AsAdmin, AsAnyone, AsCustomer, AsOrderCaller, AsStaff, AsWorker
from orderup.web.metrics import Metrics
from orderup.web.order_keys import OrderKey, hash_order_key, may_see_order, order_key
from orderup.web.routes import RequestModel, Router, never_by_head, takes_its_time, waiting
from orderup.web.server import server_config
from orderup.web.tokens import Role, mint_token
from tests.services.waiting import PATIENCE_SECONDS

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SECRET = SecretStr("a-key-of-thirty-two-characters-or-more")
CLOSED = Settings(secret_key=SECRET, worker_token=SecretStr("knead-knead-knead"), metrics_token=SecretStr("count-me"))
LAPTOP = Settings()
SALT = bytes(16)
KEY = OrderKey(order_key(SECRET, SALT), SALT, hash_order_key(order_key(SECRET, SALT)))


class Topping(RequestModel):
    name: str
    grams: int = Field(ge=1)


class Order(RequestModel):
    name: str
    toppings: list[Topping] = Field(default_factory=list)


FAILURES: dict[str, Callable[[], Exception]] = {
    "not_found": lambda: errors.NotFound("order", "x1"),
    "conflict": lambda: errors.Conflict("It is in the oven."),
    "stale": lambda: errors.StaleToken("x1-1", reason="its lease ran out"),
    "misused": errors.KeyMisused,
    "invalid": lambda: errors.Invalid("No such tier.", field="body.tier"),
    "gone": lambda: errors.Gone("It is past retention.", oldest=7),
    "upstream": lambda: errors.UpstreamFailed("Jira hangs.", retry_after=timedelta(seconds=61.2)),
    "refused": lambda: errors.UpstreamRefused("Jira says no."),
    "away": lambda: errors.Unavailable("The database is away."),
    "full": lambda: errors.StorageFull("No room."),
    "misconfigured": lambda: errors.Misconfigured("canary: /etc/secret is unreadable"),
    "crash": lambda: ZeroDivisionError("canary"),
}


def raise_as(how: str) -> NoReturn:
    failure = FAILURES[how]()
    raise failure


routes = Router(tags=["sample"])


@routes.get("/menu", dependencies=[OPEN])
async def menu() -> list[str]:
    return ["basic", "premium"]


@routes.post("/orders", status_code=202)
async def place(order: Order, caller: AsAnyone) -> dict[str, Any]:
    return {"by": caller.subject, "name": order.name}


@routes.post("/wonder")
async def wonder(_caller: AsAnyone, seconds: float = 0) -> str:
    """Hears only then whether it was written."""
    await asyncio.sleep(seconds)
    return "written"


@routes.post("/ponder")
@takes_its_time
async def ponder(_caller: AsAnyone, seconds: float = 0) -> str:
    await asyncio.sleep(seconds)
    return "done"


@routes.post("/linger")
async def linger(request: Request, _caller: AsAnyone, seconds: float = 0, then: float = 0) -> str:
    """Waits for somebody else first."""
    with waiting(request):
        await asyncio.sleep(seconds)
    await asyncio.sleep(then)
    return "written"


@routes.get("/orders/{order_id}")
async def read(order_id: str, caller: AsOrderCaller, key: str | None = None) -> dict[str, str]:
    if not may_see_order(caller, shop="sample", owner="ann", key=key, key_hash=KEY.hash):
        raise errors.NotFound("order", order_id)
    return {"id": order_id}


@routes.delete("/orders/{order_id}")
async def cancel(order_id: str, caller: AsStaff) -> dict[str, str | None]:
    return {"id": order_id, "by": caller.subject}


@routes.get("/mine")
async def mine(caller: AsCustomer) -> dict[str, str | None]:
    return {"subject": caller.subject}


@routes.post("/work")
async def work(caller: AsWorker) -> dict[str, str | None]:
    return {"subject": caller.subject, "region": caller.region}


@routes.delete("/everything")
async def delete_everything(caller: AsAdmin) -> dict[str, str | None]:
    return {"by": caller.subject}


@routes.get("/start", dependencies=[OPEN])
@never_by_head
async def start() -> dict[str, bool]:
    return {"started": True}


@routes.get("/stream", dependencies=[OPEN])
async def stream() -> StreamingResponse:
    return StreamingResponse(_for_ever(), media_type="text/event-stream")


@routes.post("/form", dependencies=[OPEN])
async def form(name: Annotated[str, Form()]) -> dict[str, str]:
    return {"name": name}


@routes.get("/fail/{how}", dependencies=[OPEN])
async def fail(how: str) -> None:
    raise_as(how)


@routes.get("/crash/{task_id}", dependencies=[OPEN])
async def crash(task_id: str) -> dict[str, str]:
    """For the id of a task; anything else is let pass."""
    if task_id[0].isdigit():
        raise ZeroDivisionError(task_id)
    return {}


@routes.websocket("/orders/{order_id}/live")
async def live(websocket: WebSocket, order_id: str, caller: AsOrderCaller, key: str | None = None) -> None:
    if not may_see_order(caller, shop="sample", owner="ann", key=key, key_hash=KEY.hash):
        raise errors.NotFound("order", order_id)
    await websocket.accept()
    await websocket.send_json({"order": order_id})
    await websocket.close()


@routes.websocket("/work")
async def push_work(websocket: WebSocket, caller: AsWorker) -> None:
    await websocket.accept()
    await websocket.send_json({"worker": caller.subject})
    await websocket.close()


@routes.websocket("/late/{how}")
async def fail_late(websocket: WebSocket, how: str, _caller: AsAnyone) -> None:
    await websocket.accept()
    raise_as(how)


async def _for_ever() -> AsyncIterator[bytes]:
    never = asyncio.Event()
    yield b": hello\n\n"
    await never.wait()


def sample_app(
    settings: Settings = LAPTOP,
    *,
    revoked: Sequence[str] = (),
    readiness: Readiness = always_ready,
    metrics: Metrics | None = None,
    prefix: str = "",
) -> OrderupApp:
    async def is_revoked(jti: str) -> bool:
        return jti in revoked

    return build_app(
        "back",
        settings,
        shops=[MountedShop("sample", routes, prefix)],
        is_revoked=is_revoked if revoked else nobody_is_revoked,
        metrics=metrics,
        now=lambda: NOW,
        readiness=readiness,
    )


def token_of(role: Role, name: str = "ann", *, shop: str | None = None, secret: SecretStr = SECRET) -> str:
    return mint_token(secret, role, name, shop=shop, now=NOW).text


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def client_of(app: OrderupApp) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://localhost:8001")


@asynccontextmanager
async def serving(app: OrderupApp, settings: Settings) -> AsyncIterator[int]:
    """The port of a real server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Python's own event loop, unlike uvloop, leaves Nagle's algorithm on: each answer would take 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = uvicorn.Server(server_config(app, settings, timeout_graceful_shutdown=1))
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listener]), name="server")
            try:
                yield listener.getsockname()[1]
            finally:
                server.should_exit = True
                stop_listening(server)


@asynccontextmanager
async def caller(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield reader, writer
    finally:
        writer.close()


async def exchange(port: int, *parts: bytes) -> bytes:
    """Send these bytes as they are, and read until the server closes. Nothing: it cut us off while we were sending."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()
