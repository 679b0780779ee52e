"""The pages of imports, for staff: a file is sent, looked at with what is wrong in it, and imported or discarded."""

import csv
import io
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from fastapi import Request
from sqlalchemy import select
from starlette.responses import RedirectResponse, Response

from orderup.db.database import ReadConnection
from orderup.errors import Invalid
from orderup.model.ids import read_id, show_id
from orderup.settings import Settings
from orderup.shops.campaigns.campaign import COLUMNS
from orderup.shops.campaigns.import_api import CSV, LARGEST_ID, ROUND_A_FILE, UNNAMED, errors_as_csv, start_import
from orderup.shops.campaigns.import_preview import estimate, in_words
from orderup.shops.campaigns.import_reading import read_import
from orderup.shops.campaigns.imports import (
    MOST_ERRORS_KEPT,
    Import,
    discard,
    find_import,
    keep_counts,
    read_errors,
    read_imports,
    why_stopped,
)
from orderup.shops.campaigns.pages import address_of, page
from orderup.shops.campaigns.tables import campaigns, import_campaigns, imports
from orderup.web import AsStaff, engine_of
from orderup.web.orders import settings_of
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.session import checked_fields
from orderup.web.paging import CursorFilter, read_cursor, show_cursor
from orderup.web.routes import takes_files
from orderup.web.upload import FORM, uploaded

A_PAGE, ERRORS_A_PAGE, NAMED = 25, 50, 10
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "strict": {"type": "string"},
                        "csrf": {"type": "string"},
                    },
                    "required": ["file"],
                }
            }
        },
    }
}
pages = PageRouter()


def _largest(settings: Settings) -> int:
    return (settings.import_megabytes << 20) + ROUND_A_FILE


@pages.get("/imports")
async def show_imports(request: Request, _caller: AsStaff, cursor: CursorFilter = None) -> Response:
    return await _show_imports(request, cursor=cursor)


async def _show_imports(request: Request, *, cursor: str | None = None, code: int = 200, problem: str = "") -> Response:
    [before] = read_cursor(cursor) or (LARGEST_ID,)
    earlier = imports.c.id < before
    engine = engine_of(request)
    found = await engine.database.read(partial(read_imports, condition=earlier, most=A_PAGE + 1))
    await keep_counts(engine.database, found)
    return page(
        request,
        "campaigns/imports.html",
        here="imports",
        code=code,
        imports=found[:A_PAGE],
        stopped={each.id for each in found if why_stopped(each, now=engine.now())},
        cursor=show_cursor(found[A_PAGE - 1].id) if len(found) > A_PAGE else None,
        columns=COLUMNS,
        megabytes=settings_of(request).import_megabytes,
        problem=problem,
    )


@pages.post(
    "/imports",
    status_code=303,
    response_class=RedirectResponse,
    openapi_extra=BODY,
    summary="Read a CSV of campaigns, to be looked at",
)
@takes_files(_largest)
async def send_file(request: Request, caller: AsStaff) -> Response:
    """Whoever looks at the page meanwhile sees how far it is read."""
    try:
        async with uploaded(request, types=frozenset()) as file:
            is_strict = "strict" in checked_fields(request, file.fields)
            name = file.name or UNNAMED
            found = await read_import(engine_of(request), file.path, name=name, is_strict=is_strict, by=caller.subject)
    except Invalid as error:
        return await _show_imports(request, code=422, problem=str(error))
    return see_other(address_of(request, f"/imports/{show_id(found.id)}"))


@pages.get("/imports/{id}")
async def show_import(request: Request, _caller: AsStaff, id: str, cursor: CursorFilter = None) -> Response:
    engine, found = engine_of(request), await _find(request, id)
    [after] = read_cursor(cursor) or (-1,)

    def read(connection: ReadConnection) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any]]:
        errors = read_errors(connection, found.id, after=after, most=ERRORS_A_PAGE + 1)
        # where there are none, all campaigns would be looked through for them
        here = campaigns_of(connection, found.id, "here") if found.here else []
        placed = campaigns_of(connection, found.id, "placed") if found.placed else []
        return errors, here, placed

    errors, here, placed = await engine.database.read(read)
    a_minute = settings_of(request).dsp_requests_a_minute
    took = estimate(found.campaigns, found.ad_groups, found.ads, a_minute)
    return page(
        request,
        "campaigns/import.html",
        here="imports",
        found=found,
        stopped=why_stopped(found, now=engine.now()),
        errors=[problem for _, problem in errors[:ERRORS_A_PAGE]],
        cursor=show_cursor(errors[ERRORS_A_PAGE - 1][0]) if len(errors) > ERRORS_A_PAGE else None,
        kept=MOST_ERRORS_KEPT,
        already=here,
        placed=placed,
        a_minute=a_minute,
        least=in_words(took.least),
        usual=in_words(took.usual),
    )


async def _find(request: Request, id: str) -> Import:
    """Raises NotFound."""
    return await find_import(engine_of(request).database, read_id(id, what="import"))


def campaigns_of(connection: ReadConnection, id: int, outcome: str) -> Sequence[tuple[str, int | None]]:
    """The first campaigns of an import of which this became, by their owner's ids, with their operations if they have
    not been pruned. One more than are to be named."""
    theirs = (import_campaigns.c.import_id == id) & (import_campaigns.c.outcome == outcome)
    joined = import_campaigns.outerjoin(campaigns, campaigns.c.id == import_campaigns.c.campaign_id)
    columns = (import_campaigns.c.campaign_id, campaigns.c.operation_id)
    rows = connection.rows(select(*columns).select_from(joined).where(theirs).limit(NAMED + 1))
    return [(row[0], row[1]) for row in rows]


class Decision(Form):
    verb: Literal["start", "discard"]


@pages.form("/imports/{id}", Decision)
async def decide(request: Request, _caller: AsStaff, id: str) -> Response:
    form, found, engine = await form_of(request, Decision), await _find(request, id), engine_of(request)
    if form.verb == "start":
        await start_import(request, found.id)
    else:
        await engine.database.write(lambda connection: discard(connection, found.id, now=engine.now()))
    return see_other(address_of(request, f"/imports/{show_id(found.id)}"))


@pages.get("/imports/{id}/errors.csv", response_class=Response, summary="What was wrong, as a CSV")
async def get_errors(request: Request, _caller: AsStaff, id: str) -> Response:
    found = await _find(request, id)
    problems = await engine_of(request).database.read(lambda connection: read_errors(connection, found.id))
    return _csv(errors_as_csv([problem for _, problem in problems]), f"errors-{show_id(found.id)}.csv")


@pages.get("/sample.csv", response_class=Response, summary="A small file of campaigns, to try an import with")
async def get_sample(_request: Request, _caller: AsStaff) -> Response:
    return _csv(sample(), "campaigns-sample.csv")


def _csv(text: str, name: str) -> Response:
    return Response(text, media_type=CSV, headers={"Content-Disposition": f'attachment; filename="{name}"'})


def sample() -> str:
    """Two campaigns, as a file has them: a row is an ad, with its ad group's columns and its campaign's."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for id, name, groups in (
        ("sample-spring", "Spring", (("young", "Young people", "18-25", 3), ("older", "People over 60", "60+", 2))),
        ("sample-summer", "Summer", (("everybody", "Everybody", "", 2),)),
    ):
        campaign = (id, name, "5000", "2026-03-01", "2026-08-31", "sales")
        for group, group_name, ages, ads in groups:
            for number in range(1, ads + 1):
                picture = f"https://cdn.example.com/{id}/{group}-{number}.png"
                ad = (f"{group}-{number}", "banner", picture, f"https://example.com/{id}", "active")
                writer.writerow((*campaign, group, group_name, "0.35", ages, "music, travel", "FR", *ad))
    return text.getvalue()
