"""`orderup staffing`: how long customers will wait, and how many baristas that takes."""

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from orderup.cli.app import command
from orderup.cli.simulate import USUAL_BARISTAS, USUAL_BREW, Baristas, Brew
from orderup.cli.simulation.arrivals import Arrivals
from orderup.errors import Misconfigured

if TYPE_CHECKING:
    from orderup.cli.simulation.queueing import Group, Waiting

USUAL_CUSTOMERS, MOST_CUSTOMERS = 200, 10_000
USUAL_RUNS, MOST_RUNS = 20, 1_000


@command()
def staffing(
    shop: Annotated[str, typer.Argument(help="Whose customers wait in one line: coffee.")],
    customers: Annotated[int, typer.Option(min=1, max=MOST_CUSTOMERS, help="How many come.")] = USUAL_CUSTOMERS,
    baristas: Baristas = USUAL_BARISTAS,
    brew: Brew = USUAL_BREW,
    over: Annotated[
        float, typer.Option(min=0, max=1440, metavar="MINUTES", help="The time over which they come; 0: all at once.")
    ] = 0.0,
    arrivals: Annotated[Arrivals, typer.Option(help="How they are spread over it: random or even.")] = Arrivals.RANDOM,
    wanted_p95: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Find the least number of baristas that serve 95 of 100 so soon."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=MOST_RUNS, help="How many days are played.")] = USUAL_RUNS,
    seed: Annotated[int | None, typer.Option(help="Draws the same lots again.")] = None,
) -> None:
    """Foretell how long customers wait for their coffee, and how many baristas that takes.

    Each figure is the mean of several days, played in simulated time without a server.
    """
    from orderup.cli.shops import load_shops
    from orderup.cli.simulation.coffee import BARISTAS
    from orderup.cli.simulation.people import people_of
    from orderup.cli.simulation.queueing import Group, draw_days, least_baristas, neighbours
    from orderup.cli.simulation.span import read_span

    [found] = load_shops([shop])
    if BARISTAS not in people_of(found).own_roles:
        raise Misconfigured(f"Shop {found.name} has no baristas to be counted. Try: orderup staffing coffee")
    if wanted_p95 is not None and not wanted_p95 > 0:
        raise Misconfigured(f"--wanted-p95 {wanted_p95:g}: write seconds, more than 0, such as --wanted-p95 600.")
    group = Group(customers, read_span(brew, option="--brew"), 60 * over, arrivals)
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    days = draw_days(group, runs=runs, seed=seed)
    needed = baristas if wanted_p95 is None else least_baristas(days, wanted_p95=wanted_p95)
    if needed is None:
        raise Misconfigured(
            f"--wanted-p95 {wanted_p95:g}: no number of baristas is enough, because brewing alone takes "
            f"{group.brew} seconds. Ask for {group.brew.most:g} or more."
        )
    table = neighbours(days, needed)
    typer.echo("\n".join(_report(group, table, needed=needed, wanted_p95=wanted_p95, runs=runs, seed=seed)))


def _report(
    group: "Group", table: "Mapping[int, Waiting]", *, needed: int, wanted_p95: float | None, runs: int, seed: int
) -> Iterator[str]:
    over = f"over {group.over_seconds / 60:g} minutes" if group.over_seconds else "at once"
    yield f"{group.customers} customers {over}, {group.brew} s to brew one coffee. Mean of {runs} days, seed {seed}."
    yield ""
    yield "baristas     p50     p95     max    busy"
    for baristas, waiting in table.items():
        seconds = "".join(f"{each:6.0f} s" for each in (waiting.p50, waiting.p95, waiting.longest))
        mark = "  ◀" if baristas == needed else ""
        yield f"{baristas:8}{seconds}{100 * waiting.busy:6.0f} %{mark}"
    yield ""
    p95 = table[needed].p95
    if wanted_p95 is None:
        yield f"With {_count(needed)}, 95 of 100 customers have their coffee within {p95:.0f} s."
    else:
        yield f"{_count(needed)} at least, for 95 of 100 customers to have their coffee within {wanted_p95:g} s."


def _count(baristas: int) -> str:
    return f"{baristas} barista{'' if baristas == 1 else 's'}"
