"""The routes of imports, for staff: a file is sent and read, looked at, and then started or discarded."""

import csv
import io
from datetime import timedelta
from functools import partial
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from orderup.db.database import WriteConnection
from orderup.engine.place import place_order
from orderup.model.csv_cell import csv_cell
from orderup.model.ids import read_id, show_id
from orderup.model.times import show_time
from orderup.settings import Settings
from orderup.shops.campaigns.import_preview import estimate, in_words
from orderup.shops.campaigns.import_reading import read_import
from orderup.shops.campaigns.imports import Import, ImportState, discard, find_import, read_errors, read_imports, start
from orderup.shops.campaigns.placing import plan_import
from orderup.shops.campaigns.plan import shop
from orderup.shops.campaigns.reading import Problem
from orderup.shops.campaigns.tables import imports
from orderup.web import AsStaff, Json, Router, engine_of
from orderup.web.orders import base_of, settings_of
from orderup.web.paging import CursorFilter, Limit, read_cursor, show_cursor
from orderup.web.routes import takes_files
from orderup.web.upload import FORM, uploaded

CSV = "text/csv"
UNNAMED = "campaigns.csv"
# A form has a few lines around its file.
ROUND_A_FILE = 64 << 10
LARGEST_ID = (1 << 63) - 1
files = Router(tags=["campaigns"])
BODY = {
    "requestBody": {
        "required": True,
        "content": {
            CSV: {"schema": {"type": "string"}},
            FORM: {
                "schema": {
                    "type": "object",
                    "properties": {"file": {"type": "string", "format": "binary"}},
                    "required": ["file"],
                }
            },
        },
    }
}


class ErrorView(BaseModel):
    """line: of the file, from 1. column: null if it is the whole row."""

    line: int
    column: str | None
    message: str


class TakesView(BaseModel):
    """How long the platform takes. least: if nothing were asked after. usual: if everything is, once."""

    least_seconds: int
    usual_seconds: int
    words: str


class ImportView(BaseModel):
    """rows: of the file. campaigns, ad_groups, ads: without those that are wrong, with those that are `here` already.
    placed, waiting: of the campaigns. error_count: of all errors, of which the first thousand are kept. operation_id:
    what places the campaigns."""

    id: str
    name: str
    state: ImportState
    is_strict: bool
    size_bytes: int
    read_bytes: int
    rows: int
    campaigns: int
    ad_groups: int
    ads: int
    here: int
    placed: int
    waiting: int
    error_count: int
    errors: list[ErrorView]
    cursor: str | None
    takes: TakesView
    began_at: str
    began_by: str | None
    operation_id: str | None
    links: dict[str, str]


class ImportLine(BaseModel):
    id: str
    name: str
    state: ImportState
    campaigns: int
    placed: int
    error_count: int
    began_at: str


class ImportList(BaseModel):
    imports: list[ImportLine]
    cursor: str | None


def _largest(settings: Settings) -> int:
    return (settings.import_megabytes << 20) + ROUND_A_FILE


@files.post(
    "/campaigns/import",
    status_code=202,
    response_model=ImportView,
    openapi_extra=BODY,
    summary="Read a CSV of campaigns, to be started or discarded",
)
@takes_files(_largest)
async def post_import(request: Request, caller: AsStaff, *, strict: bool = False, dry_run: bool = False) -> Response:
    async with uploaded(request, types=frozenset({CSV})) as file:
        found = await read_import(
            engine_of(request),
            file.path,
            name=file.name or UNNAMED,
            is_strict=strict,
            is_dry_run=dry_run,
            by=caller.subject,
        )
    shown = await view_import(request, found)
    return Json(shown, status_code=202, headers={"Location": shown["links"]["self"]})


@files.get("/campaigns/imports", response_model=ImportList, summary="Imports, the newest first")
async def get_imports(request: Request, _caller: AsStaff, cursor: CursorFilter = None, limit: Limit = 50) -> Response:
    [before] = read_cursor(cursor) or (LARGEST_ID,)
    condition = imports.c.id < before
    found = await engine_of(request).database.read(partial(read_imports, condition=condition, most=limit + 1))
    more = show_cursor(found[limit - 1].id) if len(found) > limit else None
    return Json({"imports": [_line(each) for each in found[:limit]], "cursor": more})


def _line(found: Import) -> dict[str, Any]:
    return {
        "id": show_id(found.id),
        "name": found.name,
        "state": found.state,
        "campaigns": found.campaigns,
        "placed": found.placed,
        "error_count": found.errors,
        "began_at": show_time(found.began_at),
    }


@files.get("/campaigns/imports/{id}", response_model=ImportView, summary="How far an import is, and what was wrong")
async def get_import(
    request: Request,
    _caller: AsStaff,
    id: str,
    cursor: CursorFilter = None,
    limit: Limit = 50,
) -> Response:
    return Json(await view_import(request, await _find(request, id), cursor=cursor, most=limit))


@files.get(
    "/campaigns/imports/{id}/errors.csv",
    response_class=Response,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}},
    summary="What was wrong, as a CSV",
)
async def get_errors(request: Request, _caller: AsStaff, id: str) -> Response:
    found = await _find(request, id)
    problems = await engine_of(request).database.read(lambda connection: read_errors(connection, found.id))
    text = errors_as_csv([problem for _, problem in problems])
    headers = {"Content-Disposition": f'attachment; filename="errors-{show_id(found.id)}.csv"'}
    return Response(text, media_type=CSV, headers=headers)


def errors_as_csv(problems: list[Problem]) -> str:
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(Problem._fields)
    writer.writerows([line, csv_cell(column or ""), csv_cell(message)] for line, column, message in problems)
    return written.getvalue()


@files.post("/campaigns/imports/{id}/start", status_code=202, response_model=ImportView, summary="Place its campaigns")
async def post_start(request: Request, _caller: AsStaff, id: str) -> Response:
    found = await _find(request, id)
    await start_import(request, found.id)
    return Json(await view_import(request, await _find(request, id)), status_code=202)


async def start_import(request: Request, id: int) -> None:
    """Raises Conflict if it is not ready, nor stopped halfway."""
    engine = engine_of(request)

    def note(connection: WriteConnection, operation_id: int) -> None:
        start(connection, id, now=engine.now(), operation_id=operation_id)

    await place_order(engine, shop.name, plan_import(id), also=note, source="import")


@files.post("/campaigns/imports/{id}/discard", response_model=ImportView, summary="Drop what was not placed")
async def post_discard(request: Request, _caller: AsStaff, id: str) -> Response:
    engine, found = engine_of(request), await _find(request, id)
    await engine.database.write(lambda connection: discard(connection, found.id, now=engine.now()))
    return Json(await view_import(request, await _find(request, id)))


async def _find(request: Request, id: str) -> Import:
    """Raises NotFound."""
    return await find_import(engine_of(request).database, read_id(id, what="import"))


async def view_import(request: Request, found: Import, *, cursor: str | None = None, most: int = 50) -> dict[str, Any]:
    [after] = read_cursor(cursor) or (-1,)
    errors = await engine_of(request).database.read(partial(read_errors, id=found.id, after=after, most=most + 1))
    took = estimate(found.campaigns, found.ad_groups, found.ads, settings_of(request).dsp_requests_a_minute)
    here = f"{base_of(request, shop.name)}/campaigns/imports/{show_id(found.id)}"
    return {
        "id": show_id(found.id),
        "name": found.name,
        "state": found.state,
        "is_strict": found.is_strict,
        "size_bytes": found.size,
        "read_bytes": found.read,
        "rows": found.rows,
        "campaigns": found.campaigns,
        "ad_groups": found.ad_groups,
        "ads": found.ads,
        "here": found.here,
        "placed": found.placed,
        "waiting": found.waiting,
        "error_count": found.errors,
        "errors": [problem._asdict() for _, problem in errors[:most]],
        "cursor": show_cursor(errors[most - 1][0]) if len(errors) > most else None,
        "takes": {
            "least_seconds": took.least // timedelta(seconds=1),
            "usual_seconds": took.usual // timedelta(seconds=1),
            "words": in_words(took.least),
        },
        "began_at": show_time(found.began_at),
        "began_by": found.by,
        "operation_id": None if found.operation_id is None else show_id(found.operation_id),
        "links": {
            "self": here,
            "start": f"{here}/start",
            "discard": f"{here}/discard",
            "errors": f"{here}/errors.csv",
        },
    }
