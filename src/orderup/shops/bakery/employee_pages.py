"""The bakery's pages about the people who work there, for admins: hire, change, fire, and whether GitHub knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

from fastapi import Request
from pydantic import Field, ValidationError
from starlette.responses import Response

from orderup.errors import Invalid
from orderup.model.operation import Operation, OperationStatus
from orderup.shops.bakery.employees import DEVELOPER, Employee, Given, list_employees
from orderup.shops.bakery.pages import Faults, address_of
from orderup.shops.bakery.staff import LONGEST_NAME, EmployeeBody, change_one, find_employee, fire_one, hire_one
from orderup.shops.bakery.staff_pages import back, page
from orderup.web import AsAdmin, engine_of
from orderup.web.idempotency import KEY_PATTERN, LONGEST_KEY, idempotency_key
from orderup.web.pages.route import Form, PageRouter, form_of, see_other
from orderup.web.pages.session import read_form
from orderup.web.pages.texts import _
from orderup.web.problems import problem_of_invalid

LONGEST_OTHERS = 3_000
EMPTY: Mapping[str, str] = {"first_name": "", "last_name": "", "github": "", "developer": "", "others": ""}
# As the API has them, and as the form has them.
FIELDS = {"firstName": "first_name", "lastName": "last_name", "permissions": "others", "github": "github"}
pages = PageRouter()


class EmployeeForm(Form):
    """developer: "yes", or left out. others: what else he may do, with commas between. key: of the page it was filled
    in on."""

    first_name: Annotated[str, Field(max_length=10 * LONGEST_NAME)]
    last_name: Annotated[str, Field(max_length=10 * LONGEST_NAME)]
    github: Annotated[str, Field(max_length=10 * LONGEST_NAME)] = ""
    developer: Annotated[str, Field(max_length=10)] = ""
    others: Annotated[str, Field(max_length=LONGEST_OTHERS)] = ""
    key: Annotated[str, Field(min_length=1, max_length=LONGEST_KEY, pattern=KEY_PATTERN)] = Field(
        default_factory=lambda: uuid4().hex
    )


@dataclass(frozen=True, slots=True)
class Row:
    """sync: how it stands with GitHub: in line, under way, waiting, failed; "" once nobody remembers. fault: what went
    wrong last."""

    employee: Employee
    sync: str
    fault: str | None

    @property
    def may(self) -> Sequence[str]:
        return [name for name, has_it in self.employee.permissions.items() if has_it]


@pages.get("/people")
async def show_employees(request: Request, _caller: AsAdmin) -> Response:
    return await _show_list(request)


async def _show_list(
    request: Request, *, written: Mapping[str, str] | None = None, faults: Faults | None = None
) -> Response:
    database = engine_of(request).database
    found = await database.read(list_employees)
    behind = await database.load([each.operation_id for each in found])
    return page(
        request,
        "bakery/employees.html",
        here="people",
        code=422 if faults else 200,
        rows=[_row(each, behind.get(each.operation_id)) for each in found],
        **_filled(written or {}, faults or {}),
        problem=_("Nobody was hired yet.") if faults else "",
    )


def _row(employee: Employee, behind: Operation | None) -> Row:
    if behind is None:
        return Row(employee, "", None)
    fault = next((task.error for task in behind.tasks if task.error), behind.reason)
    match behind.status:
        case OperationStatus.COMPLETED:
            return Row(employee, "in line", None)
        case OperationStatus.ERRORED | OperationStatus.CANCELLED:
            return Row(employee, "failed", fault)
        case _:
            return Row(employee, "under way", fault)


def _filled(written: Mapping[str, str], faults: Faults) -> Mapping[str, object]:
    # a key that is no key would be refused for good
    key = uuid4().hex if "key" in faults else written.get("key") or uuid4().hex
    return {"values": {**EMPTY, **written}, "wrong": {**dict.fromkeys(EMPTY, ()), **faults}, "key": key}


@pages.form("/people", EmployeeForm)
async def hire(request: Request, caller: AsAdmin) -> Response:
    written = await read_form(request)
    body, faults = _judge(written)
    if body is None:
        return await _show_list(request, written=written, faults=faults)
    engine = engine_of(request)
    key = idempotency_key(
        request, caller, body.model_dump(), now=engine.now(), key=EmployeeForm.model_validate(written).key
    )
    await hire_one(request, body, key=key)
    return see_other(address_of(request, "/people"))


def _judge(written: Mapping[str, str]) -> tuple[EmployeeBody | None, Faults]:
    """Whom the form is about, or what is wrong with it."""
    try:
        form = EmployeeForm.model_validate(written)
        body = {
            "firstName": form.first_name,
            "lastName": form.last_name,
            "permissions": dict.fromkeys([*([DEVELOPER] if form.developer else []), *_names_in(form.others)], True),
            "github": form.github.strip() or None,
        }
        return EmployeeBody.model_validate(body), {}
    except ValidationError as error:
        return None, _faults_of(error, written)


def _names_in(text: str) -> list[str]:
    return [name for part in text.split(",") if (name := part.strip().lower())]


def _faults_of(error: ValidationError, written: Mapping[str, str]) -> Faults:
    faults: dict[str, Sequence[str]] = {}
    for one in problem_of_invalid(error.errors()).errors:
        # of the whole: that a developer has no login
        name = one.field.partition(".")[0]
        field = FIELDS.get(name, name) or "github"
        said = _in_words(field, one.message, text=written.get(field, ""))
        faults[field] = [*faults.get(field, ()), *([said] if said not in faults.get(field, ()) else [])]
    return faults


def _in_words(field: str, message: str, *, text: str) -> str:
    match field:
        case "github" if not text.strip():
            return _("A developer needs a login at GitHub, to be invited by.")
        case "github":
            return _("This is no login at GitHub: letters, digits and single hyphens.")
        case "others":
            return _("Permissions are words of small letters, digits, - and _, with commas between; 50 at most.")
        case _:
            return message if text.strip() else _("Please fill this in.")


@pages.get("/people/{id}")
async def show_employee(request: Request, _caller: AsAdmin, id: str) -> Response:
    employee = await find_employee(request, id)
    return await _show_one(request, employee, written=_written(employee), faults={})


def _written(employee: Employee) -> Mapping[str, str]:
    others = [name for name, has_it in employee.permissions.items() if has_it and name != DEVELOPER]
    return {
        "first_name": employee.first_name,
        "last_name": employee.last_name,
        "github": employee.github or "",
        "developer": "yes" if employee.permissions.get(DEVELOPER) else "",
        "others": ", ".join(others),
    }


async def _show_one(request: Request, employee: Employee, *, written: Mapping[str, str], faults: Faults) -> Response:
    behind = await engine_of(request).database.load([employee.operation_id])
    return page(
        request,
        "bakery/employee.html",
        here="people",
        code=422 if faults else 200,
        row=_row(employee, behind.get(employee.operation_id)),
        **_filled(written, faults),
        problem=_("Nothing was changed yet.") if faults else "",
    )


@pages.form("/people/{id}", EmployeeForm)
async def change(request: Request, _caller: AsAdmin, id: str) -> Response:
    written = await read_form(request)
    employee = await find_employee(request, id)
    body, faults = _judge(written)
    if body is None:
        return await _show_one(request, employee, written=written, faults=faults)
    # what he was told that he may not do stays so, unless he may now
    refused = {name: False for name, has_it in employee.permissions.items() if not has_it}
    given = Given(body.first_name, body.last_name, {**refused, **body.permissions}, body.github)
    try:
        await change_one(request, employee.id, given)
    except Invalid as error:
        return await _show_one(request, employee, written=written, faults={"github": [str(error)]})
    return see_other(address_of(request, "/people"))


@pages.form("/people/{id}/fire")
async def dismiss(request: Request, _caller: AsAdmin, id: str) -> Response:
    await form_of(request, Form)
    employee = await find_employee(request, id)
    await fire_one(request, employee.id)
    return see_other(address_of(request, "/people"))


back.include_router(pages)
