"""`orderup simulate`: customers, staff and workers against any server."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from random import Random
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer

from orderup.cli.app import command
from orderup.errors import Misconfigured

if TYPE_CHECKING:
    from orderup.cli.simulation.stage import Stage
    from orderup.settings import Settings
    from orderup.shop import Shop

log = structlog.get_logger("orderup.simulation")
# Orders a second, in life.
USUAL_RATE = 0.5


@command()
def simulate(
    shop: Annotated[str, typer.Argument(help="Whose people.")],
    role: Annotated[str | None, typer.Argument(help="customers, staff or workers; none: all of them.")] = None,
    server: Annotated[str | None, typer.Option(help="The server, front or back. Unset: SERVER_URL.")] = None,
    rate: Annotated[float, typer.Option(min=0.001, help="Orders a second, at speed 1.")] = USUAL_RATE,
    count: Annotated[int | None, typer.Option(min=1, help="Orders until it ends. Unset: it goes on.")] = None,
    speed: Annotated[float, typer.Option(min=0.01, help="How many times faster than life.")] = 1.0,
    token: Annotated[
        str | None, typer.Option(help="Staff's or a worker's. Unset: made with SECRET_KEY, if that is set.")
    ] = None,
) -> None:
    """Simulate a shop's customers, staff and workers against any server. A signal stops them."""
    from orderup.cli.shops import load_shops
    from orderup.settings import Settings
    from orderup.web.logs import configure_logs

    settings = Settings.from_environment(os.environ)
    configure_logs(settings)
    [found] = load_shops([shop])
    known = roles_of(found)
    if role is not None and role not in known:
        raise Misconfigured(f"Shop {found.name} has no simulated {role}. It has: {', '.join(known) or 'nobody'}.")
    roles = known if role is None else (role,)
    options = {"server": server, "speed": speed, "token": token}
    asyncio.run(_simulate(found, settings, roles, rate=rate, count=count, **options))


def roles_of(shop: "Shop") -> tuple[str, ...]:
    """Who can be simulated."""
    people = ("customers", "staff") if shop.name == "pizza" else ()
    return (*people, *(("workers",) if shop.worker_functions else ()))


async def _simulate(
    shop: "Shop", settings: "Settings", roles: Sequence[str], *, rate: float, count: int | None, **options: Any
) -> None:
    """Until the customers are done, or a signal comes. Raises what ended it otherwise."""
    from orderup.cli.simulation.stage import open_stage

    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stopped.set)
    async with open_stage(shop.name, settings, random=Random(), **options) as stage:
        playing = asyncio.create_task(_play(shop, stage, roles, rate=rate, count=count), name="simulation")
        stopping = asyncio.create_task(stopped.wait(), name="asked to stop")
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (playing, stopping):
            task.cancel()
        await asyncio.wait({playing, stopping})
        if not playing.cancelled() and (error := playing.exception()) is not None:
            raise cause_of(error)
        log.info("stopped")


async def _play(shop: "Shop", stage: "Stage", roles: Sequence[str], *, rate: float, count: int | None) -> None:
    from orderup.cli.simulation import pizza
    from orderup.cli.simulation.workers import workers_of

    log.info("simulating", shop=shop.name, roles=", ".join(roles), front=stage.front, back=stage.back)
    async with AsyncExitStack() as working:
        if "workers" in roles:
            name = f"simulated-{os.getpid()}"
            await working.enter_async_context(workers_of(shop, stage, region=shop.region, name=name))
        async with asyncio.TaskGroup() as group:
            deciding = group.create_task(pizza.be_staff(stage), name="staff") if "staff" in roles else None
            if "customers" in roles:
                await pizza.be_customers(stage, rate=rate * stage.speed, orders=[], count=count, told=_say_nothing)
                if deciding is not None:
                    deciding.cancel()
            elif deciding is None:
                await asyncio.Event().wait()


def _say_nothing(_order: object) -> None:
    return None


def cause_of(error: BaseException) -> BaseException:
    """The first error that is none of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
