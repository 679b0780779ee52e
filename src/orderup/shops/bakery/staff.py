"""The routes about the people who work here, for admins."""

from typing import Annotated, Any

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict
from starlette.responses import Response

from orderup.db.database import Key, WriteConnection
from orderup.engine.desk import Replayed
from orderup.engine.place import place_order
from orderup.errors import Conflict, Invalid, NotFound
from orderup.integrations.github import is_login
from orderup.model.one_line import one_line
from orderup.shops.bakery.employees import (
    DEVELOPER,
    Employee,
    Given,
    change_employee,
    employee_of,
    fire,
    hire,
    list_employees,
    read_employee,
)
from orderup.shops.bakery.plan import plan_access, shop
from orderup.web import AsAdmin, Json, RequestModel, Router, engine_of, takes_key
from orderup.web.idempotency import REPLAYED, idempotency_key

LONGEST_NAME, MOST_PERMISSIONS = 100, 50
# As GitHub has it; those of managed users end with an underscore and a short name.
LOGIN, LONGEST_LOGIN = r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*(_[A-Za-z0-9]{1,20})?$", 60
HIRED: JsonDict = {
    "firstName": "Jack",
    "lastName": "Harrot",
    "permissions": {"developer": True},
    "github": "jharrot",
}
staff = Router(tags=["bakery"])


def _read_name(text: str) -> str:
    name = one_line(text)
    if not name:
        raise ValueError("is empty")
    return name


def _read_login(text: str) -> str:
    """No pattern counts what comes before the underscore."""
    if not is_login(text):
        raise ValueError("is no login at GitHub: it has 39 characters at most")
    return text


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_read_name)]
Permission = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$")]
Permissions = Annotated[dict[Permission, bool], Field(max_length=MOST_PERMISSIONS)]
Login = Annotated[str, Field(pattern=LOGIN, max_length=LONGEST_LOGIN), AfterValidator(_read_login)]


class EmployeeBody(RequestModel):
    """permissions: by name; `developer` brings an invitation to the repository. github: the login there."""

    model_config = ConfigDict(json_schema_extra={"examples": [HIRED]})

    first_name: Name = Field(alias="firstName")
    last_name: Name = Field(alias="lastName")
    permissions: Permissions = Field(default_factory=dict)
    github: Login | None = None

    @model_validator(mode="after")
    def _check_login(self) -> "EmployeeBody":
        if self.permissions.get(DEVELOPER) and self.github is None:
            raise ValueError("github: a developer needs a login there, to be invited by")
        return self


class EmployeeChange(RequestModel):
    """What is left out stays. permissions: all that he has from now on."""

    first_name: Name | None = Field(default=None, alias="firstName")
    last_name: Name | None = Field(default=None, alias="lastName")
    permissions: Permissions | None = None
    github: Login | None = None


class EmployeeView(BaseModel):
    """access: what GitHub lets him do, as far as we know: invited, member, or null."""

    id: int
    firstName: str  # noqa: N815  the API's
    lastName: str  # noqa: N815
    permissions: dict[str, bool]
    github: str | None
    access: str | None


class EmployeeList(BaseModel):
    employees: list[EmployeeView]


def view_employee(employee: Employee) -> dict[str, Any]:
    return {
        "id": employee.id,
        "firstName": employee.first_name,
        "lastName": employee.last_name,
        "permissions": employee.permissions,
        "github": employee.github,
        "access": employee.access,
    }


@staff.get("/employees", response_model=EmployeeList, summary="Who works here")
async def get_employees(request: Request, _caller: AsAdmin) -> Response:
    found = await engine_of(request).database.read(list_employees)
    return Json({"employees": [view_employee(each) for each in found]})


@staff.get("/employees/{id}", response_model=EmployeeView, summary="One of them")
async def get_employee(request: Request, _caller: AsAdmin, id: str) -> Response:
    return Json(view_employee(await find_employee(request, id)))


async def find_employee(request: Request, id: str) -> Employee:
    """Raises NotFound."""
    number = _read_id(id)
    return await engine_of(request).database.read(lambda connection: read_employee(connection, number))


@staff.post("/employees", status_code=201, response_model=EmployeeView, summary="Hire somebody")
@takes_key
async def post_employee(request: Request, caller: AsAdmin, body: EmployeeBody) -> Response:
    key = idempotency_key(request, caller, body.model_dump(), now=engine_of(request).now())
    hired, is_replay = await hire_one(request, body, key=key)
    return Json(view_employee(hired), status_code=201, headers=REPLAYED if is_replay else {})


async def hire_one(request: Request, body: EmployeeBody, *, key: Key | None) -> tuple[Employee, bool]:
    """With whether the same was sent before, and he is hired already."""
    engine = engine_of(request)
    given = Given(body.first_name, body.last_name, body.permissions, body.github)

    def add(connection: WriteConnection, operation_id: int) -> None:
        hire(connection, operation_id, given, now=engine.now())

    try:
        operation_id: int = (await place_order(engine, shop.name, plan_access(), key=key, also=add)).id
        is_replay = False
    except Replayed as replayed:
        operation_id, is_replay = replayed.operation_id, True
    hired = await engine.database.read(lambda connection: employee_of(connection, operation_id))
    if hired is None:
        raise Conflict("Somebody has changed or fired him since: GET /employees shows how he stands.")
    return hired, is_replay


@staff.patch("/employees/{id}", response_model=EmployeeView, summary="Change what he is called, or may do")
async def patch_employee(request: Request, _caller: AsAdmin, id: str, body: EmployeeChange) -> Response:
    before = await find_employee(request, id)
    given = Given(
        first_name=body.first_name or before.first_name,
        last_name=body.last_name or before.last_name,
        permissions=before.permissions if body.permissions is None else body.permissions,
        github=body.github or before.github,
    )
    await change_one(request, before.id, given)
    return Json(view_employee(await find_employee(request, id)))


async def change_one(request: Request, id: int, given: Given) -> None:
    """In one transaction with the operation that brings GitHub in line with it. Raises NotFound, Invalid."""
    if given.permissions.get(DEVELOPER) and given.github is None:
        raise Invalid("A developer needs a login at GitHub, to be invited by.", field="body.github")

    def change(connection: WriteConnection, operation_id: int) -> None:
        change_employee(connection, operation_id, id, given)

    await place_order(engine_of(request), shop.name, plan_access(), also=change)


@staff.delete("/employees/{id}", status_code=204, summary="Fire somebody")
async def delete_employee(request: Request, _caller: AsAdmin, id: str) -> Response:
    await fire_one(request, _read_id(id))
    return Response(status_code=204)


async def fire_one(request: Request, id: int) -> None:
    """Raises NotFound."""
    engine = engine_of(request)

    def leave(connection: WriteConnection, operation_id: int) -> None:
        fire(connection, operation_id, id, now=engine.now())

    await place_order(engine, shop.name, plan_access(), also=leave)


def _read_id(text: str) -> int:
    """Raises NotFound for what cannot be one."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise NotFound("employee", text[:100])
    return int(text)
