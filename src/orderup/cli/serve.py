"""`orderup serve`: front and back of some shops, in one process."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import structlog
import typer
import uvicorn
import uvloop

from orderup.cli.app import command
from orderup.cli.assembly import House, open_house
from orderup.cli.process import raise_open_files_limit, tune_the_interpreter
from orderup.cli.shops import load_shops
from orderup.cli.stand_ins import standing_in
from orderup.cli.welcome import is_watched, welcome
from orderup.errors import Misconfigured
from orderup.settings import LogFormat, Settings
from orderup.shop import Shop
from orderup.web.app import OrderupApp
from orderup.web.logs import configure_logs
from orderup.web.loopback import check_binding
from orderup.web.server import server_config

log = structlog.get_logger(__name__)
# Of front and back.
Sockets = tuple[socket.socket, socket.socket]
HOST = "The address to listen on; one beyond this machine only with SECRET_KEY."


class ExecutorName(StrEnum):
    LOCAL = "local"
    CELERY = "celery"
    NONE = "none"


class QuietServer(uvicorn.Server):
    """Uvicorn without signal handlers of its own: two serve in one process, and one handler stops both."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@command()
def serve(
    shops: Annotated[list[str] | None, typer.Argument(help="Shops to serve; none: all that are installed.")] = None,
    front_port: Annotated[int, typer.Option(min=0, max=65535, help="For customers.")] = 8000,
    back_port: Annotated[int, typer.Option(min=0, max=65535, help="For staff and workers.")] = 8001,
    front_host: Annotated[str, typer.Option(help=HOST)] = "127.0.0.1",
    back_host: Annotated[str, typer.Option(help=HOST)] = "127.0.0.1",
    executor: Annotated[ExecutorName, typer.Option(help="Who runs handlers.")] = ExecutorName.LOCAL,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running tasks get to finish at the end.")] = 10,
    sandbox_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the sandbox, if a shop needs it; or the next free one.")
    ] = 8002,
    sandbox: Annotated[bool, typer.Option(help="Whether it may stand in for third parties that are not set.")] = True,  # noqa: FBT002  a switch of the command line
) -> None:
    """Serve shops: customers at the front, staff and workers at the back."""
    settings = Settings.from_environment(os.environ)
    configure_logs(settings)
    check_binding(settings, [front_host, back_host])
    raise_open_files_limit()
    tune_the_interpreter()
    found = load_shops(shops or [])
    sockets = (
        listen(front_host, front_port, option="--front-port"),
        listen(back_host, back_port, option="--back-port"),
    )
    # The only one named is a service of its own; the only one installed may get neighbours, and stays where it is.
    house = serving(
        settings,
        found,
        sockets,
        executor=executor,
        grace=timedelta(seconds=grace),
        at_root=bool(shops),
        sandbox_port=sandbox_port if sandbox else None,
        greet=_greet if settings.log_format is LogFormat.PEOPLE and is_watched() else None,
    )
    uvloop.run(_serve(house, names=", ".join(shop.name for shop in found)))


def listen(host: str, port: int, *, option: str) -> socket.socket:
    """A listening socket. Raises Misconfigured, saying how to take another port."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family[0], family[1])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(family[4])
        listener.listen(2048)
    except OSError as error:
        raise Misconfigured(
            f"Cannot listen on {host}:{port}: {error.strerror}. Choose another port with {option}."
        ) from error
    listener.setblocking(False)  # noqa: FBT003  its only argument
    return listener


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    shown = "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else host  # noqa: S104  only shown
    return f"http://{shown}:{port}"


async def _serve(house: AbstractAsyncContextManager[tuple[str, str]], *, names: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, _stop, stop, name)
    async with house as (front_url, back_url):
        log.info("serving", shops=names, customers=front_url, staff_and_workers=back_url)
        await stop.wait()
    log.info("stopped")


def _stop(stop: asyncio.Event, name: signal.Signals) -> None:
    """The first signal lets what runs finish; the second one waits for nothing, as a kill would."""
    if stop.is_set():
        log.warning("stopped at once; what was running is taken up again when its lease has run out")
        os._exit(128 + name)
    log.info("stopping; a second signal stops at once")
    stop.set()


def _greet(house: House, front_url: str, back_url: str) -> None:
    tokens = house.settings.secret_key is not None
    typer.echo(welcome(house.front.openapi(), front=front_url, back=back_url, asks_for_tokens=tokens))


@asynccontextmanager
async def serving(
    settings: Settings,
    shops: Sequence[Shop],
    sockets: Sockets,
    *,
    executor: ExecutorName = ExecutorName.LOCAL,
    grace: timedelta = timedelta(seconds=10),
    at_root: bool | None = None,
    sandbox_port: int | None = None,
    greet: Callable[[House, str, str], None] | None = None,
) -> AsyncIterator[tuple[str, str]]:
    """Front and back, at work; their addresses. `sockets`: listening ones for the two. `greet` is told, with their
    addresses, when they begin. `sandbox_port`: see `standing_in`. The rest: see `open_house`."""
    front_url, back_url = (address_of(listener) for listener in sockets)
    async with (
        standing_in(settings, shops, port=sandbox_port) as (complete, stand_in),
        open_house(
            complete,
            shops,
            front_url=front_url,
            back_url=back_url,
            executor=executor,
            grace=grace,
            at_root=at_root,
        ) as house,
    ):
        house.back.state.stand_in = stand_in
        servers = [_server(app, settings) for app in (house.front, house.back)]
        async with asyncio.TaskGroup() as group:
            for server, listener in zip(servers, sockets, strict=True):
                group.create_task(server.serve(sockets=[listener]), name="web server")
            if greet is not None:
                greet(house, front_url, back_url)
            try:
                yield front_url, back_url
            finally:
                await house.drain(grace)
                house.stop_serving()
                for server in servers:
                    server.should_exit = True


def _server(app: OrderupApp, settings: Settings) -> uvicorn.Server:
    return QuietServer(server_config(app, settings, timeout_graceful_shutdown=5))
