"""The first page of the back: how the last day went, and what wants somebody now."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import Request
from starlette.responses import Response

from orderup.db.busy import MOST_COUNTED
from orderup.db.today import Hour, Spread, Today, read_today
from orderup.model.operation import OperationStatus
from orderup.model.times import show_time
from orderup.web.auth import AsStaff
from orderup.web.orders import engine_of
from orderup.web.pages import charts
from orderup.web.pages.route import PageRouter
from orderup.web.pages.site import site_of
from orderup.web.pages.words import show_count
from orderup.web.paging import ShopFilter, shop_of
from orderup.web.routes import Router
from orderup.web.tokens import Caller

# Cells that a spreadsheet would take for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
router = PageRouter()
# What programs read: they are refused in JSON, as by the API.
numbers = Router(tags=["pages"])


class Csv(Response):
    media_type = "text/csv"


async def _read(request: Request, caller: Caller, shop: str | None) -> tuple[Today, int]:
    engine = engine_of(request)
    shops, now = shop_of(engine, caller, shop or None), engine.now()
    return await engine.database.read(lambda connection: read_today(connection, shops=shops, now=now)), now


@router.get("/")
async def show_today(request: Request, caller: AsStaff, shop: ShopFilter = None) -> Response:
    today, now = await _read(request, caller, shop)
    return site_of(request).page(
        request,
        "today.html",
        stand_in=request.app.state.stand_in,
        shop=shop or "",
        shops=shop_of(engine_of(request), caller, None),
        attention=_attention(today),
        hours=[{"begin": hour.begin, **_shown(hour)} for hour in today.hours],
        outcomes=charts.OUTCOMES,
        is_quiet=not any(any(hour.counts.values()) for hour in today.hours),
        took=today.took,
        queues=today.queues,
        hours_chart=charts.draw_hours(today.hours),
        took_chart=charts.draw_took(today.took),
        ages_chart=charts.draw_ages(today.queues, now=now),
        shown_in_chart=charts.MOST_ROWS,
        most_counted=MOST_COUNTED,
    )


def _attention(today: Today) -> Mapping[str, str]:
    """How many there are by status, in words: of those counted up to a bound, that there may be more."""
    found = {}
    for status in (OperationStatus.PENDING, OperationStatus.ERRORED, OperationStatus.PAUSED, OperationStatus.RUNNING):
        counts = [count for (_, each), count in today.counts.items() if each == status]
        found[status.value] = show_count(sum(counts), is_at_least=MOST_COUNTED in counts)
    return found


def _shown(hour: Hour) -> dict[str, str]:
    open_ones = set(map(str, OperationStatus)) - set(charts.OUTCOMES)
    return {
        outcome: show_count(
            count, is_at_least=bool(hour.at_least & (open_ones if outcome == charts.OUTCOMES[-1] else {outcome}))
        )
        for outcome, count in charts.outcomes_of(hour).items()
    }


@numbers.get("/today.csv", response_class=Csv, summary="The numbers of the first page")
async def get_csv(request: Request, caller: AsStaff, shop: ShopFilter = None) -> Response:
    today, now = await _read(request, caller, shop)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("chart", "of", "measure", "value"))
    writer.writerows([cell(value) for value in row] for row in _rows(today, now=now))
    return Csv(out.getvalue(), headers={"Content-Disposition": 'attachment; filename="today.csv"'})


def _rows(today: Today, *, now: int) -> Iterator[tuple[Any, ...]]:
    for (shop, status), count in sorted(today.counts.items()):
        yield "now", shop, status, count
    for hour in today.hours:
        for outcome, count in charts.outcomes_of(hour).items():
            yield "placed by hour", show_time(hour.begin), outcome, count
    for took in today.took:
        for name, spread in (("waited", took.waited), ("took", took.made)):
            yield from _spread_rows(f"{took.shop}/{took.kind}", name, spread)
    for queue in today.queues:
        yield "queues", queue.name, "pending", queue.pending
        yield "queues", queue.name, "oldest waits seconds", round(charts.age_of(queue, now=now), 3)


def _spread_rows(of: str, name: str, spread: Spread | None) -> Iterator[tuple[Any, ...]]:
    if spread is not None:
        yield "last orders", of, f"{name} seconds, median", spread.median
        yield "last orders", of, f"{name} seconds, 90 %", spread.most


def cell(value: object) -> str:
    """As a spreadsheet takes it for what it is: a text."""
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
