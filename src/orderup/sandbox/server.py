"""Serving the sandbox at a port of this machine, in whatever event loop runs already."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from orderup.sandbox.app import build_app
from orderup.sandbox.dsp import Dsp
from orderup.sandbox.github import GitHub
from orderup.sandbox.google import Google
from orderup.sandbox.jira import Jira
from orderup.sandbox.mealbox import Mealbox
from orderup.sandbox.service import Service
from orderup.sandbox.slack import Slack
from orderup.sandbox.smtp import Smtp
from orderup.sandbox.wire import Protocol

HOST = "127.0.0.1"
LAST_PORT = 65_535
# How many ports in a row are tried.
MOST_TRIED = 100
# Connections; beyond these callers are told 503 by the server itself.
MOST_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Where it is, without a slash at the end, and the third parties that it stands in for."""

    base_url: str
    mealbox: Mealbox
    jira: Jira
    github: GitHub
    slack: Slack
    smtp: Smtp
    drive: Google
    dsp: Dsp


class Server(uvicorn.Server):
    """Uvicorn's own without signal handlers, for it may run beside others. It ends at once: whoever waits for an answer
    is cut off, which ends his request in order, instead of being waited for."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            assert isinstance(connection, Protocol)
            connection.transport.abort()
        await super().shutdown(sockets)


@asynccontextmanager
async def serve_sandbox(
    port: int = 0, *, scale: float = 1, host: str = HOST, names: Sequence[str] = ()
) -> AsyncIterator[Sandbox]:
    """At this port, or the next free one if it is taken; 0: at any. Mail comes at the next free one after that.
    `scale`: by how much every delay is divided. `host`: the address to listen on. names: by which it may be called,
    besides those of this machine.

    Raises OSError if a hundred ports in a row are taken.
    """
    with listen(port, host=host) as listener, listen(_port_after(port, listener), host=host) as mail_listener:
        mealbox = Mealbox(scale=scale)
        jira = Jira(scale=scale)
        github = GitHub(scale=scale)
        slack = Slack(scale=scale)
        smtp = Smtp(mail_listener, host=next(iter(names), HOST), scale=scale)
        drive = Google(scale=scale)
        dsp = Dsp(scale=scale)
        services: list[Service] = [jira, github, slack, smtp, drive, dsp]
        async with AsyncExitStack() as running:
            for service in services:
                await running.enter_async_context(service.open())
            await running.enter_async_context(serve_app(build_app([mealbox], services, names=names), listener))
            base_url = f"http://{next(iter(names), HOST)}:{listener.getsockname()[1]}"
            yield Sandbox(base_url, mealbox, jira=jira, github=github, slack=slack, smtp=smtp, drive=drive, dsp=dsp)


@asynccontextmanager
async def serve_app(app: Starlette, listener: socket.socket) -> AsyncIterator[None]:
    server = Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MOST_AT_ONCE,
        )
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve(sockets=[listener]), name="sandbox")
        try:
            yield
        finally:
            server.should_exit = True
            stop_listening(server)


def stop_listening(server: uvicorn.Server) -> None:
    """Uvicorn that is cancelled does not, and would leave an event loop that goes on watching numbers of files that are
    closed: whoever gets them next is not heard."""
    for each in server.servers if server.started else ():
        each.close()


def _port_after(port: int, listener: socket.socket) -> int:
    """For mail; 0: any, as for the rest."""
    taken: int = listener.getsockname()[1]
    return taken + 1 if port and taken < LAST_PORT else 0


def listen(port: int, *, host: str = HOST) -> socket.socket:
    for tried in range(port, min(port + MOST_TRIED, LAST_PORT + 1)):
        try:
            listener = socket.create_server((host, tried), backlog=2048)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            # Python's own event loop leaves Nagle's algorithm on: what drips would come in lumps.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listener
    raise OSError(errno.EADDRINUSE, f"no port from {port} on is free")
