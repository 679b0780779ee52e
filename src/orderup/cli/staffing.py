"""`orderup staffing`: how long customers will wait, and how many baristas that takes."""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orderup.cli.app import command
from orderup.cli.simulate import USUAL_BARISTAS, USUAL_BREW, Baristas, Brew, within
from orderup.cli.simulation.arrivals import Arrivals
from orderup.errors import Misconfigured

if TYPE_CHECKING:
    from orderup.cli.simulation.queueing import Group, Waiting

USUAL_CUSTOMERS, MOST_CUSTOMERS = 200, 10_000
USUAL_RUNS, MOST_RUNS = 20, 1_000
MOST_MINUTES, LONGEST_WANTED = 1_440, 1e9
# Who has waited so long is shown how far it is, and again after so long each time.
PATIENCE_SECONDS, REDRAW_SECONDS = 1.0, 0.2


@command()
def staffing(
    shop: Annotated[str, typer.Argument(help="Whose customers wait in one line: coffee.")],
    customers: Annotated[int, typer.Option(min=1, max=MOST_CUSTOMERS, help="How many come.")] = USUAL_CUSTOMERS,
    baristas: Baristas = USUAL_BARISTAS,
    brew: Brew = USUAL_BREW,
    over: Annotated[
        float, typer.Option(metavar="MINUTES", help="The time over which they come; 0: all at once.")
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

    within(over, 0, MOST_MINUTES, option="--over")
    [found] = load_shops([shop])
    if BARISTAS not in people_of(found).own_roles:
        raise Misconfigured(f"Shop {found.name} has no baristas to be counted. Try: orderup staffing coffee")
    if wanted_p95 is not None and not 0 < wanted_p95 <= LONGEST_WANTED:
        raise Misconfigured(
            f"--wanted-p95 {wanted_p95:g}: write seconds, more than 0 and at most {LONGEST_WANTED:,.0f}, "
            "such as --wanted-p95 600."
        )
    group = Group(customers, read_span(brew, option="--brew"), 60 * over, arrivals)
    seed = int.from_bytes(os.urandom(4)) if seed is None else seed
    days = draw_days(group, runs=runs, seed=seed)
    progress = Progress(runs)
    try:
        needed = baristas if wanted_p95 is None else least_baristas(days, wanted_p95=wanted_p95, told=progress.note)
        table = {} if needed is None else neighbours(days, needed, told=progress.note)
    finally:
        progress.clear()
    if needed is None:
        raise Misconfigured(
            f"--wanted-p95 {wanted_p95:g}: no number of baristas is enough, because brewing alone takes "
            f"{group.brew} seconds. Ask for {group.brew.most:g} or more."
        )
    typer.echo("\n".join(_report(group, table, needed=needed, wanted_p95=wanted_p95, runs=runs, seed=seed)))


def _report(
    group: "Group", table: "Mapping[int, Waiting]", *, needed: int, wanted_p95: float | None, runs: int, seed: int
) -> Iterator[str]:
    from orderup.cli.simulation.coffee import in_seconds

    over = f"over {group.over_seconds / 60:g} minutes" if group.over_seconds else "at once"
    yield f"{group.customers} customers {over}, {group.brew} s to brew one coffee. Mean of {runs} days, seed {seed}."
    yield ""
    rows = {
        baristas: [in_seconds(each) for each in (waiting.p50, waiting.p95, waiting.longest)]
        for baristas, waiting in table.items()
    }
    width = max(8, *(len(each) + 2 for row in rows.values() for each in row))
    yield f"baristas{_cells(('p50', 'p95', 'max'), width)}    busy"
    for baristas, row in rows.items():
        mark = "  ◀" if baristas == needed else ""
        yield f"{baristas:8}{_cells(row, width)}{100 * table[baristas].busy:6.0f} %{mark}"
    yield ""
    p95 = table[needed].p95
    if wanted_p95 is None:
        yield f"With {_count(needed)}, 95 of 100 customers have their coffee within {in_seconds(p95)}."
    else:
        yield f"{_count(needed)} at least, for 95 of 100 customers to have their coffee within {wanted_p95:g} s."


def _cells(texts: Sequence[str], width: int) -> str:
    return "".join(f"{each:>{width}}" for each in texts)


def _count(baristas: int) -> str:
    return f"{baristas} barista{'' if baristas == 1 else 's'}"


class Progress:
    """On a terminal, a line of how far it is, as soon as it takes long; elsewhere nothing. It is standard error's, and
    gone at the end: what is foretold stands alone."""

    def __init__(self, runs: int) -> None:
        self.runs = runs
        self._is_seen = sys.stderr.isatty()
        self._next_at = time.monotonic() + PATIENCE_SECONDS
        self._shown = ""

    def note(self, baristas: int, day: int) -> None:
        if not self._is_seen or time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + REDRAW_SECONDS
        self._show(f"With {_count(baristas)}: day {day} of {self.runs}")

    def clear(self) -> None:
        if self._shown:
            self._show("")
            typer.echo("\r", err=True, nl=False)

    def _show(self, text: str) -> None:
        typer.echo(f"\r{text:{len(self._shown)}}", err=True, nl=False)
        self._shown = text
