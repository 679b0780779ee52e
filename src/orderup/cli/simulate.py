"""`orderup simulate`: a shop's people against any server."""

import asyncio
import os
import signal
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer

from orderup.cli.app import command
from orderup.errors import Misconfigured

if TYPE_CHECKING:
    from orderup.cli.simulation.people import People
    from orderup.cli.simulation.stage import Stage
    from orderup.settings import Settings

log = structlog.get_logger("orderup.simulation")
Baristas = Annotated[int, typer.Option(min=1, max=1_000, help="At a coffee bar: how many of them there are.")]
Brew = Annotated[str, typer.Option(metavar="SECONDS", help="At a coffee bar: how long one coffee takes a barista.")]
USUAL_BARISTAS, USUAL_BREW = 10, "30-60"
# As fast as a day in a second; beyond that there is nothing to see.
SLOWEST, FASTEST = 0.01, 100_000.0
LEAST_RATE, MOST_RATE = 0.001, 10_000.0
MOST_ORDERS = 1_000_000


def within(value: float | None, least: float, most: float, *, option: str) -> None:
    """Of an option, if it is given. Raises Misconfigured; `nan` is between no two numbers."""
    if value is not None and not least <= value <= most:
        raise Misconfigured(f"{option} {value:g}: write a number from {least:g} to {most:,.0f}.")


@command()
def simulate(
    shop: Annotated[str, typer.Argument(help="Whose people.")],
    role: Annotated[
        str | None, typer.Argument(help="customers, staff, workers or baristas; none: all that the shop has.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(help="The server, front or back. Unset: BASE_SERVER_URL, else SERVER_URL.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Orders a second, at speed 1. Unset: as usual in that shop.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, max=MOST_ORDERS, help="Orders until it ends. Unset: it goes on.")
    ] = None,
    baristas: Baristas = USUAL_BARISTAS,
    brew: Brew = USUAL_BREW,
    speed: Annotated[float, typer.Option(help="How many times faster than life.")] = 1.0,
    token: Annotated[
        str | None, typer.Option(help="Staff's or a worker's. Unset: made with SECRET_KEY, if that is set.")
    ] = None,
) -> None:
    """Simulate a shop's customers, and whoever serves them, against any server. A signal stops them."""
    from orderup.cli.shops import load_shops
    from orderup.cli.simulation.people import Day, people_of
    from orderup.cli.simulation.span import read_span
    from orderup.settings import Settings
    from orderup.web.logs import configure_logs

    within(rate, LEAST_RATE, MOST_RATE, option="--rate")
    within(speed, SLOWEST, FASTEST, option="--speed")
    settings = Settings.from_environment(os.environ)
    configure_logs(settings)
    [found] = load_shops([shop])
    day = Day(count=count, rate=rate, baristas=baristas, brew=read_span(brew, option="--brew"))
    people = people_of(found)(found, day)
    known = people.roles
    if role is not None and role not in known:
        raise Misconfigured(f"Shop {found.name} has no simulated {role}. It has: {', '.join(known) or 'nobody'}.")
    roles = known if role is None else (role,)
    asyncio.run(_simulate(people, settings, roles, server=server, speed=speed, token=token))


async def _simulate(people: "People", settings: "Settings", roles: Sequence[str], **options: Any) -> None:
    """Until the customers are done, or a signal comes. Raises what ended it otherwise."""
    from orderup.cli.simulation.stage import open_stage

    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with open_stage(people.shop.name, settings, random=Random(), **options) as stage:
        playing = asyncio.create_task(_play(people, stage, roles), name="simulation")
        stopping = asyncio.create_task(stopped.wait(), name="asked to stop")
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (playing, stopping):
            task.cancel()
        await asyncio.wait({playing, stopping})
        if not playing.cancelled() and (error := playing.exception()) is not None:
            raise cause_of(error)
        log.info("stopped")


async def _play(people: "People", stage: "Stage", roles: Sequence[str]) -> None:
    from orderup.cli.simulation.people import CUSTOMERS

    log.info("simulating", shop=people.shop.name, roles=", ".join(roles), front=stage.front, back=stage.back)
    async with people.at_work(stage, roles, name=f"simulated-{os.getpid()}"):
        if CUSTOMERS in roles:
            await people.be_customers(stage, _say_nothing)
        else:
            await asyncio.Event().wait()


def _say_nothing() -> None:
    return None


def cause_of(error: BaseException) -> BaseException:
    """The first error that is none of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
