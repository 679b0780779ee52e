"""`orderup work`: does a shop's remote tasks with the worker functions that the shop brings along."""

import inspect
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from orderup.cli.app import command
from orderup.cli.shops import load_shops
from orderup.errors import Misconfigured
from orderup.settings import Settings
from orderup.shop import Shop, WorkerFunction
from orderup.web.logs import configure_logs
from orderup.worker import Worker
from orderup.worker.worker import MOST_CONCURRENCY, USUAL_SERVER


class TransportName(StrEnum):
    HTTP = "http"
    WEBSOCKET = "websocket"


@command()
def work(
    shop: Annotated[str, typer.Argument(help="Whose tasks.")],
    server: Annotated[str | None, typer.Option(help="The server; its front will do. Unset: SERVER_URL.")] = None,
    region: Annotated[str | None, typer.Option(help="Where this worker is. Unset: the shop's own.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=MOST_CONCURRENCY, help="How many tasks at once.")] = 1,
    name: Annotated[str | None, typer.Option(help="Unique among all workers. Unset: made up.")] = None,
    transport: Annotated[TransportName, typer.Option(help="Ask for tasks, or be pushed to.")] = TransportName.HTTP,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running tasks get to finish at the end.")] = 10,
    speed: Annotated[
        float | None, typer.Option(min=0, help="How many times faster than life simulated work goes; 0: at once.")
    ] = None,
) -> None:
    """Do a shop's remote tasks, as a worker that may run anywhere. A signal stops it; a second one stops it at once."""
    settings = Settings.from_environment(os.environ)
    configure_logs(settings)
    found = load_shops([shop])[0]
    worker = Worker(
        found.name,
        server=server or settings.server_url or USUAL_SERVER,
        region=region or found.region,
        token=None if settings.worker_token is None else settings.worker_token.get_secret_value(),
        name=name,
        concurrency=concurrency,
        transport=transport.value,
        grace=timedelta(seconds=grace),
        heartbeat=settings.heartbeat,
    )
    for kind, function in functions_of(found, speed=speed).items():
        worker.task(kind)(function)
    worker.run()


def functions_of(shop: Shop, *, speed: float | None = None) -> Mapping[str, WorkerFunction]:
    """The shop's worker functions, those that simulate at this speed. Raises Misconfigured if it brings none along, or
    none that simulates although a speed is given."""
    functions = shop.worker_functions
    if not functions:
        raise Misconfigured(
            f"Shop {shop.name} brings no worker functions along. Set shop.worker_functions, or write a worker of "
            "your own with orderup.worker."
        )
    if speed is None:
        return functions
    simulated = {kind: partial(function, speed=speed) for kind, function in functions.items() if _simulates(function)}
    if not simulated:
        raise Misconfigured(f"Shop {shop.name} simulates nothing: leave --speed out.")
    return {**functions, **simulated}


def _simulates(function: Callable[..., Any]) -> bool:
    return "speed" in inspect.signature(function).parameters
