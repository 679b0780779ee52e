"""The Tasks API, as its clients know it: paths with or without a slash at the end, errors in FastAPI's own shape.

The rows belong to nobody: where there are tokens, any customer's reads and writes them, and staff's.
"""

from typing import Annotated, Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from starlette.responses import Response

from orderup.db.database import WriteConnection
from orderup.engine.desk import Replayed
from orderup.model.times import as_datetime
from orderup.shops.campaigns.tasks import (
    LARGEST_ID,
    LONGEST_ERROR,
    ClientStatus,
    ClientTask,
    TaskExists,
    change_task,
    delete_task,
    insert_task,
    list_tasks,
    read_task,
)
from orderup.web import OPEN, Caller, Json, Lax, RequestModel, Router, engine_of, takes_key
from orderup.web.auth import requires
from orderup.web.details import DETAILS_RESPONSES
from orderup.web.idempotency import REPLAYED, idempotency_key, take_key
from orderup.web.paging import CursorFilter, Limit, read_cursor, show_cursor
from orderup.web.tokens import Role

PATH = "/api/tasks"
NEW: JsonDict = {"id": 1, "status": "Not Started"}
AsClient = Annotated[Caller, requires(Role.CUSTOMER, Role.STAFF)]
router = Router(tags=["campaigns"])


def _or_none(text: str) -> str | None:
    """An empty one is none."""
    return text or None


Error = Annotated[str, Field(max_length=LONGEST_ERROR), AfterValidator(_or_none)]


class NewTask(RequestModel):
    """id: the next free one unless it is given. validation_error: makes the status Error."""

    model_config = ConfigDict(json_schema_extra={"examples": [NEW]})

    id: Annotated[int, Field(ge=1, le=LARGEST_ID)] | None = None
    status: Lax[ClientStatus]
    validation_error: Error | None = None


class TaskChange(RequestModel):
    """What is left out stays. validation_error: makes the status Error; null: takes it away. id, created_at and
    updated_at may stand there, as they do in what was read, and are ignored."""

    status: Lax[ClientStatus] | None = None
    validation_error: Error | None = None
    id: Any = None
    created_at: Any = None
    updated_at: Any = None


class TaskView(BaseModel):
    """created_at, updated_at: in UTC, with microseconds."""

    id: int
    status: ClientStatus
    validation_error: str | None
    created_at: str
    updated_at: str


class TaskAnswer(BaseModel):
    task: TaskView


class TaskList(BaseModel):
    tasks: list[TaskView]
    cursor: str | None


class Health(BaseModel):
    message: str


def show_task(task: ClientTask) -> dict[str, Any]:
    return {
        "id": task.id,
        "status": task.status,
        "validation_error": task.validation_error,
        "created_at": _show_time(task.created_at),
        "updated_at": _show_time(task.updated_at),
    }


def _show_time(micros: int) -> str:
    """Such as 2026-11-21T09:30:00.125000Z."""
    return as_datetime(micros).isoformat(timespec="microseconds").replace("+00:00", "Z")


@router.get("/api/healthchecker", response_model=Health, dependencies=[OPEN], summary="Whether the API is up")
async def get_health() -> Response:
    return Json({"message": "The API is up."})


@router.post(PATH, status_code=201, response_model=TaskAnswer, responses=DETAILS_RESPONSES, summary="Write down a task")
@takes_key
async def post_task(request: Request, caller: AsClient, body: NewTask) -> Response:
    engine = engine_of(request)
    now = engine.now()
    key = idempotency_key(request, caller, body.model_dump(mode="json"), now=now)

    def add(connection: WriteConnection) -> ClientTask:
        id, is_new = insert_task(
            connection, body.id, status=body.status, validation_error=body.validation_error, now=now
        )
        take_key(connection, key, operation_id=id)
        if not is_new:
            raise TaskExists(id)
        return read_task(connection, id)

    try:
        task, headers = await engine.database.write(add), {}
    except Replayed as replayed:
        id, headers = replayed.operation_id, REPLAYED
        task = await engine.database.read(lambda connection: read_task(connection, id))
    return Json({"task": show_task(task)}, status_code=201, headers=headers)


@router.get(PATH, response_model=TaskList, responses=DETAILS_RESPONSES, summary="Tasks, by their ids")
async def get_tasks(
    request: Request,
    _caller: AsClient,
    status: ClientStatus | None = None,
    cursor: CursorFilter = None,
    limit: Limit = 50,
) -> Response:
    [after] = read_cursor(cursor) or (None,)
    found = await engine_of(request).database.read(
        lambda connection: list_tasks(connection, status=status, after=after, most=limit + 1)
    )
    more = show_cursor(found[limit - 1].id) if len(found) > limit else None
    return Json({"tasks": [show_task(task) for task in found[:limit]], "cursor": more})


@router.get(f"{PATH}/{{id}}", response_model=TaskAnswer, responses=DETAILS_RESPONSES, summary="A task")
async def get_task(request: Request, _caller: AsClient, id: int) -> Response:
    task = await engine_of(request).database.read(lambda connection: read_task(connection, id))
    return Json({"task": show_task(task)})


@router.patch(
    f"{PATH}/{{id}}",
    status_code=202,
    response_model=TaskAnswer,
    responses=DETAILS_RESPONSES,
    summary="Change a task, finished or not",
)
async def patch_task(request: Request, _caller: AsClient, id: int, body: TaskChange) -> Response:
    engine = engine_of(request)
    changes_error = "validation_error" in body.model_fields_set

    def change(connection: WriteConnection) -> ClientTask:
        return change_task(
            connection,
            id,
            status=body.status,
            changes_error=changes_error,
            validation_error=body.validation_error,
            now=engine.now(),
        )

    return Json({"task": show_task(await engine.database.write(change))}, status_code=202)


@router.delete(f"{PATH}/{{id}}", status_code=204, responses=DETAILS_RESPONSES, summary="Delete a task")
async def remove_task(request: Request, _caller: AsClient, id: int) -> Response:
    await engine_of(request).database.write(lambda connection: delete_task(connection, id))
    return Response(status_code=204)


# each of them with a slash at the end, too: its clients follow no redirect
for _route in [each for each in router.routes if isinstance(each, APIRoute) and each.path.startswith(PATH)]:
    router.add_api_route(
        f"{_route.path}/",
        _route.endpoint,
        methods=list(_route.methods or ()),
        status_code=_route.status_code,
        response_model=_route.response_model,
        responses=DETAILS_RESPONSES,
        summary=_route.summary,
        operation_id=f"{_route.endpoint.__name__}_with_slash",
    )
