"""`orderup demo`: a server of its own, and everybody who has to do with it, simulated; at the end a summary."""

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer

from orderup.cli.app import command
from orderup.cli.simulate import FASTEST, SLOWEST, USUAL_BARISTAS, USUAL_BREW, Baristas, Brew, cause_of, within
from orderup.errors import Misconfigured

if TYPE_CHECKING:
    from orderup.cli.simulation.people import Outcome, People
    from orderup.cli.simulation.stage import Stage
    from orderup.settings import Settings

INTERRUPTED = 130


@command()
def demo(
    shop: Annotated[str, typer.Argument(help="Whose day is shown: pizza or coffee.")],
    orders: Annotated[
        int | None,
        typer.Option("--orders", "--customers", min=1, max=100_000, help="How many. Unset: as usual in that shop."),
    ] = None,
    baristas: Baristas = USUAL_BARISTAS,
    brew: Brew = USUAL_BREW,
    speed: Annotated[
        float | None, typer.Option(help="How many times faster than life. Unset: as usual in that shop.")
    ] = None,
    database: Annotated[
        str | None, typer.Option(help="postgresql://…: a database of the demo's own is made there, and dropped.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Draws the same lots again.")] = None,
) -> None:
    """Show a shop at work, with nothing to prepare: its own server and database for once, everybody played by programs.

    The last lines sum it up. Exit code 0 means that each order came to the end it should have.
    """
    import uvloop

    from orderup.cli.shops import load_shops
    from orderup.cli.simulation.people import CUSTOMERS, Day, people_of
    from orderup.cli.simulation.span import read_span
    from orderup.settings import LogLevel, Settings
    from orderup.web.logs import configure_logs

    within(speed, SLOWEST, FASTEST, option="--speed")
    [found] = load_shops([shop])
    kind = people_of(found)
    day = Day(count=orders or kind.usual_count, baristas=baristas, brew=read_span(brew, option="--brew"))
    people = kind(found, day)
    if CUSTOMERS not in people.roles:
        raise Misconfigured(f"Shop {found.name} has no simulated customers to show. Try: orderup demo pizza")
    speed = people.usual_speed if speed is None else speed
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    with temporary_database(database) as url:
        # The demo's server is for this machine and this hour: what is set for another one does not concern it.
        settings = Settings(database_url=url, log_level=LogLevel.ERROR, **people.settings(speed=speed))
        configure_logs(settings)
        typer.echo(f"Seed {seed}. Ctrl-C stops it.")
        try:
            summary = uvloop.run(_show(people, settings, speed=speed, seed=seed))
        except BaseExceptionGroup as error:
            raise cause_of(error) from error
    if summary is None:
        typer.echo("Stopped; what it had stored is gone.")
        raise typer.Exit(INTERRUPTED)
    typer.echo(summary.text())
    raise typer.Exit(0 if summary.is_good else 1)


@contextmanager
def temporary_database(server: str | None) -> Iterator[str]:
    """The URL of an empty database that is gone at the end: a file, or one more in that PostgreSQL server. What is
    there already is not touched. Raises Misconfigured."""
    if server is None:
        with tempfile.TemporaryDirectory(prefix="orderup-demo-") as folder:
            yield f"sqlite:///{Path(folder) / 'orderup.db'}"
        return
    if urlsplit(server).scheme not in ("postgresql", "postgres"):
        raise Misconfigured("--database takes postgresql://USER@HOST/NAME. Leave it out for a temporary SQLite file.")
    with _postgres_database(server) as url:
        yield url


@contextmanager
def _postgres_database(server: str) -> Iterator[str]:
    import psycopg
    from psycopg import sql

    name = f"orderup_demo_{os.urandom(6).hex()}"
    try:
        with psycopg.connect(server, autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise Misconfigured(f"No database for the demo can be made there: {str(error).strip()}") from error
    try:
        yield urlunsplit(urlsplit(server)._replace(scheme="postgresql", path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True, connect_timeout=10) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


async def _show(people: "People", settings: "Settings", *, speed: float, seed: int) -> "Outcome | None":
    """None if a signal ended it."""
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with own_stage(people, settings, speed=speed, seed=seed) as stage:
        playing = asyncio.create_task(_play(people, stage), name="demo")
        stopping = asyncio.create_task(stopped.wait(), name="asked to stop")
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (playing, stopping):
            task.cancel()
        await asyncio.wait({playing, stopping})
        return None if playing.cancelled() else playing.result()


@asynccontextmanager
async def own_stage(people: "People", settings: "Settings", *, speed: float, seed: int) -> AsyncIterator["Stage"]:
    """A server on free ports of this machine, which nobody else knows of."""
    from orderup.cli.process import raise_open_files_limit
    from orderup.cli.serve import listen, serving
    from orderup.cli.simulation.stage import open_stage

    raise_open_files_limit()
    sockets = (listen("127.0.0.1", 0, option="--front-port"), listen("127.0.0.1", 0, option="--back-port"))
    async with (
        serving(settings, [people.shop], sockets) as (_, back),
        open_stage(people.shop.name, settings, server=back, speed=speed, random=Random(seed)) as stage,
    ):
        yield stage


async def _play(people: "People", stage: "Stage") -> "Outcome":
    """Open the shop, and see every customer off."""
    from rich.console import Console

    from orderup.cli.simulation.display import Display

    watch = Watch(patience_seconds=people.patience_seconds(speed=stage.speed))
    display = Display(Console(file=sys.stdout), people.visits, wanted=people.day.count or 0, statuses=people.statuses)
    async with people.at_work(stage, people.roles, name=people.team), asyncio.TaskGroup() as group:
        showing = group.create_task(display.run(), name="display")
        ordering = group.create_task(people.be_customers(stage, watch.note), name="customers")
        await watch.until_done_or_stuck(ordering)
        seconds = watch.seconds
        showing.cancel()
    return await people.sum_up(stage, seconds=seconds)


class Watch:
    """Notices when nothing moves any more."""

    def __init__(self, *, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self._began = self._moved = time.monotonic()

    @property
    def seconds(self) -> float:
        """From the beginning to the last that moved."""
        return self._moved - self._began

    def note(self) -> None:
        self._moved = time.monotonic()

    async def until_done_or_stuck(self, task: "asyncio.Task[Any]") -> None:
        """Cancels what is stuck: its orders are told of in the summary."""
        while not task.done():
            left = self._moved + self.patience_seconds - time.monotonic()
            if left <= 0:
                task.cancel()
                return
            await asyncio.wait({task}, timeout=left)
