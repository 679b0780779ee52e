"""What `orderup staffing` foretells, beside what the real server does: waiting at a coffee bar, by its baristas.

All customers come at once, at a server with front and back, sockets and a database on disk; only brewing is faster than
in life. Each day is also foretold with the very brewing times that were drawn in it. `--svg` draws the picture of
docs/shops/staffing.md.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any
from xml.sax.saxutils import escape

import uvloop

from orderup.cli.demo import own_stage, temporary_database
from orderup.cli.shops import load_shops
from orderup.cli.simulation.coffee import CoffeeBar, Summary
from orderup.cli.simulation.people import Day
from orderup.cli.simulation.queueing import Group, Waiting, draw_day, draw_days, foretell, play
from orderup.cli.simulation.span import Span, read_span
from orderup.cli.simulation.stage import Stage
from orderup.model.quantile import quantile
from orderup.settings import LogLevel, Settings
from orderup.web.logs import configure_logs

CUSTOMERS, BREW, SPEED, SEED, DAYS = 30, "30-60", 16.0, 1, 200
NO_TIME = Span(0.0, 0.0)
BARISTAS = (6, 8, 10, 12, 15)
FEWEST_SHARE, MOST_SHARE = 0.05, 0.95
FIGURES = ("p50", "p95")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of one number of baristas. lows, highs: between them are nine in ten of the days that were foretold."""

    baristas: int
    measured: Summary
    same_day: Waiting
    mean: Waiting
    lows: dict[str, float]
    highs: dict[str, float]


def measure(group: Group, baristas: int, *, speed: float, seed: int) -> Summary:
    """One day of a real server, in seconds of life. Raises RuntimeError if not everybody was served once."""
    [shop] = load_shops(["coffee"])
    day = Day(count=group.customers, baristas=baristas, brew=group.brew)
    bar = CoffeeBar(shop, day, random=Random(seed))
    with temporary_database(None) as url:
        settings = Settings(database_url=url, log_level=LogLevel.ERROR, **bar.settings(speed=speed))
        configure_logs(settings)
        summary = uvloop.run(_play(bar, settings, speed=speed, seed=seed))
    if not summary.is_good:
        raise RuntimeError(summary.text())
    return summary


async def _play(bar: CoffeeBar, settings: Settings, *, speed: float, seed: int) -> Summary:
    async with own_stage(bar, settings, speed=speed, seed=seed) as stage:
        # what a server does only once is none of a day's waiting
        await _see_through(CoffeeBar(bar.shop, replace(bar.day, brew=NO_TIME)), stage)
        return await _see_through(bar, stage)


async def _see_through(bar: CoffeeBar, stage: Stage) -> Summary:
    async with bar.at_work(stage, bar.roles, name=bar.team):
        await bar.be_customers(stage, _say_nothing)
    return await bar.sum_up(stage, seconds=0)


def _say_nothing() -> None:
    return None


def compare(group: Group, baristas: int, *, speed: float, seed: int) -> Comparison:
    days = draw_days(group, runs=DAYS, seed=seed)
    each = [play(day, baristas) for day in days]
    spread = {name: sorted(getattr(waiting, name) for waiting in each) for name in FIGURES}
    return Comparison(
        baristas=baristas,
        measured=measure(group, baristas, speed=speed, seed=seed),
        same_day=play(draw_day(group, Random(seed)), baristas),
        mean=foretell(days, baristas),
        lows={name: quantile(values, FEWEST_SHARE) for name, values in spread.items()},
        highs={name: quantile(values, MOST_SHARE) for name, values in spread.items()},
    )


def report(found: Sequence[Comparison]) -> str:
    lines = [
        "| baristas | p50 measured | foretold | p95 measured | foretold | max measured | foretold | most apart |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        real, same = each.measured, each.same_day
        pairs = [(real.p50, same.p50), (real.p95, same.p95), (real.longest, same.longest)]
        cells = " | ".join(f"{one:.0f} s | {other:.0f} s" for one, other in pairs)
        lines.append(f"| {each.baristas} | {cells} | {100 * max(abs(a / b - 1) for a, b in pairs):.1f} % |")
    return "\n".join(lines)


# the picture

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, FLOOR = 64, 616, 92, 340
NAMES = {"p50": "half of the customers (p50)", "p95": "95 of 100 (p95)"}
STYLE = """svg { background: #ffffff; color: #1c1917 }
text { font-family: system-ui, "Liberation Sans", "DejaVu Sans", sans-serif; font-size: 13px; fill: currentColor }
.heading { font-size: 17px; font-weight: 600 }
.soft { fill: #57534e }
.grid { stroke: #d6d3d1 }
.p50 { --colour: #0369a1 }
.p95 { --colour: #b45309 }
.foretold { fill: none; stroke: var(--colour); stroke-width: 2px }
.p95.foretold { stroke-dasharray: 7 4 }
.days { fill: var(--colour); opacity: 0.15 }
.measured { fill: var(--colour); stroke: none }
@media (prefers-color-scheme: dark) {
  svg { background: #1c1917; color: #f5f5f4 }
  .soft { fill: #a8a29e }
  .grid { stroke: #44403c }
  .p50 { --colour: #38bdf8 }
  .p95 { --colour: #fbbf24 }
}"""


class Axes:
    """Baristas from left to right, seconds upwards from nothing."""

    def __init__(self, found: Sequence[Comparison]) -> None:
        self.least, self.most = found[0].baristas, found[-1].baristas
        tallest = max(max(*each.highs.values(), each.measured.p95) for each in found)
        self.step = next(step for step in (10, 20, 50, 100, 200, 500, 1000, 5000) if tallest / step <= 6)
        self.top = self.step * (int(tallest / self.step) + 1)

    def x(self, baristas: int) -> float:
        return LEFT + 24 + (RIGHT - LEFT - 48) * (baristas - self.least) / max(1, self.most - self.least)

    def y(self, seconds: float) -> float:
        return FLOOR - (FLOOR - TOP) * seconds / self.top


def draw(found: Sequence[Comparison], *, customers: int, brew: str) -> str:
    """Lines foretell, points were measured; each is told apart by shape, too."""
    axes = Axes(found)
    said = "; ".join(
        f"{each.baristas} baristas: p50 {each.measured.p50:.0f} s measured, {each.mean.p50:.0f} s foretold, "
        f"p95 {each.measured.p95:.0f} s measured, {each.mean.p95:.0f} s foretold"
        for each in found
    )
    title = f"Waiting for coffee, foretold and measured: {customers} customers at once, {brew} s to brew one"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"',
        'role="img" aria-labelledby="title description">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="description">{escape(said)}.</desc>',
        f"<style>{STYLE}</style>",
        _text(24, 32, "How long customers wait, by the number of baristas", kind="heading"),
        _text(24, 54, f"{customers} customers at once, {brew} s to brew one coffee; seconds of life", kind="soft"),
        *_grid(axes, found),
        *(part for name in FIGURES for part in _figure(axes, found, name)),
        *_legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _grid(axes: Axes, found: Iterable[Comparison]) -> Iterator[str]:
    for seconds in range(0, axes.top + 1, axes.step):
        y = axes.y(seconds)
        yield f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(LEFT - 8, y + 4, f"{seconds}", kind="soft", anchor="end")
    for each in found:
        yield _text(axes.x(each.baristas), FLOOR + 20, f"{each.baristas}", kind="soft", anchor="middle")
    yield _text((LEFT + RIGHT) / 2, FLOOR + 42, "baristas", kind="soft", anchor="middle")


def _figure(axes: Axes, found: Sequence[Comparison], name: str) -> Iterator[str]:
    def path(values: Iterable[tuple[int, float]]) -> str:
        return "L".join(f"{axes.x(baristas):.1f} {axes.y(seconds):.1f}" for baristas, seconds in values)

    highs = path((each.baristas, each.highs[name]) for each in found)
    lows = path((each.baristas, each.lows[name]) for each in reversed(found))
    line = path((each.baristas, getattr(each.mean, name)) for each in found)
    yield f'<path class="{name} days" d="M{highs}L{lows}Z"/>'
    yield f'<path class="{name} foretold" d="M{line}"/>'
    for each in found:
        seconds = getattr(each.measured, name)
        words = f"{each.baristas} baristas, {name} measured: {seconds:.0f} s"
        yield _mark(name, axes.x(each.baristas), axes.y(seconds), words)


def _mark(name: str, x: float, y: float, words: str) -> str:
    title = f"<title>{escape(words)}</title>"
    if name == "p50":
        return f'<circle class="{name} measured" cx="{x:.1f}" cy="{y:.1f}" r="5">{title}</circle>'
    return f'<rect class="{name} measured" x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10">{title}</rect>'


def _legend() -> Iterator[str]:
    x = 320
    for y, name in ((84, "p95"), (106, "p50")):
        yield f'<path class="{name} foretold" d="M{x} {y}H{x + 36}"/>'
        yield _mark(name, x + 52, y, "measured")
        yield _text(x + 66, y + 4, NAMES[name])
    yield _text(x, 128, "line: foretold, nine in ten days in the band;", kind="soft")
    yield _text(x, 146, "mark: one day of the real server", kind="soft")


def _text(x: float, y: float, words: str, *, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _read_arguments() -> Any:
    parser = argparse.ArgumentParser(prog="bench staffing", description=__doc__)
    parser.add_argument("--customers", type=int, default=CUSTOMERS)
    parser.add_argument("--baristas", type=int, nargs="+", default=BARISTAS)
    parser.add_argument("--brew", default=BREW)
    parser.add_argument("--speed", type=float, default=SPEED)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--svg", type=Path)
    return parser.parse_args()


def main() -> None:
    wanted = _read_arguments()
    group = Group(wanted.customers, read_span(wanted.brew, option="--brew"))
    found = []
    for baristas in sorted(set(wanted.baristas)):
        each = compare(group, baristas, speed=wanted.speed, seed=wanted.seed)
        found.append(each)
        print(f"{baristas} baristas: p95 {each.measured.p95:.0f} s", file=sys.stderr, flush=True)
    print(report(found))
    if wanted.svg is not None:
        wanted.svg.write_text(draw(found, customers=wanted.customers, brew=wanted.brew), encoding="utf-8")


if __name__ == "__main__":
    main()
