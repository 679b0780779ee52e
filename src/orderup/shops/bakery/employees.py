"""Who works here, and whether GitHub knows it yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import ColumnElement, delete, insert, select, update

from orderup.db.database import ReadConnection, WriteConnection
from orderup.errors import NotFound
from orderup.model.placing import encode
from orderup.shops.bakery.tables import employees

DEVELOPER = "developer"


@dataclass(frozen=True, slots=True)
class Employee:
    """github: his login there. github_id: of the account that this login meant when it was first used. former: logins
    that he had before and that GitHub may still know. access: what GitHub lets him do, in a word, as far as we know.
    is_fired: he is gone, and his row goes once GitHub knows."""

    id: int
    operation_id: int
    first_name: str
    last_name: str
    permissions: Mapping[str, bool]
    github: str | None
    github_id: int | None
    former: Sequence[str]
    access: str | None
    is_fired: bool

    @property
    def may_develop(self) -> bool:
        return self.permissions.get(DEVELOPER, False) and not self.is_fired


@dataclass(frozen=True, slots=True)
class Given:
    """What is said of somebody who works here."""

    first_name: str
    last_name: str
    permissions: Mapping[str, bool]
    github: str | None


def hire(connection: WriteConnection, operation_id: int, given: Given, *, now: int) -> None:
    """`operation_id`: of the one that tells GitHub."""
    row = {**_columns(given), "operation": operation_id, "former": "[]", "hired_at": now}
    connection.execute(insert(employees).values(row))


def change_employee(connection: WriteConnection, operation_id: int, id: int, given: Given) -> None:
    """Raises NotFound."""
    before = read_employee(connection, id)
    changed = {**_columns(given), "operation": operation_id}
    is_same = same_login(given.github, before.github)
    if not is_same:
        changed |= {"github_id": None, "access": None}
    if before.may_develop and before.github is not None and not (is_same and given.permissions.get(DEVELOPER)):
        # also if no access of his is noted: he may just be being invited
        changed["former"] = encode(sorted({*before.former, before.github}))
    connection.execute(update(employees).where(employees.c.id == id).values(changed))


def fire(connection: WriteConnection, operation_id: int, id: int, *, now: int) -> None:
    """Raises NotFound."""
    here = (employees.c.id == id) & employees.c.fired_at.is_(None)
    statement = update(employees).where(here).values(operation=operation_id, fired_at=now)
    if connection.execute(statement.execution_options(preserve_rowcount=True)).rowcount != 1:
        raise NotFound("employee", id)


def read_employee(connection: ReadConnection, id: int) -> Employee:
    """Raises NotFound."""
    found = _read(connection, (employees.c.id == id) & employees.c.fired_at.is_(None))
    if not found:
        raise NotFound("employee", id)
    return found[0]


def employee_of(connection: ReadConnection, operation_id: int) -> Employee | None:
    """Whom this operation is about, fired or not; None: a later one is, or he is forgotten."""
    found = _read(connection, employees.c.operation == operation_id)
    return found[0] if found else None


def same_login(one: str | None, other: str | None) -> bool:
    """GitHub does not tell capitals from small letters."""
    return one is not None and other is not None and one.casefold() == other.casefold()


def developers(connection: ReadConnection) -> set[str]:
    """The logins, in small letters, of all who may develop."""
    return {each.github.casefold() for each in list_employees(connection) if each.may_develop and each.github}


def employees_of(connection: ReadConnection, operation_ids: Sequence[int]) -> Sequence[Employee]:
    """Those whom these operations are about."""
    return _read(connection, employees.c.operation.in_(operation_ids))


def list_employees(connection: ReadConnection) -> Sequence[Employee]:
    return _read(connection, employees.c.fired_at.is_(None))


def note_access(connection: WriteConnection, operation_id: int, *, access: str | None, github_id: int | None) -> None:
    """GitHub is in line with him. If he is gone, so is his row."""
    here = employees.c.operation == operation_id
    connection.execute(delete(employees).where(here, employees.c.fired_at.is_not(None)))
    connection.execute(update(employees).where(here).values(access=access, github_id=github_id, former="[]"))


def _columns(given: Given) -> dict[str, object]:
    return {
        "first_name": given.first_name,
        "last_name": given.last_name,
        "permissions": encode(dict(given.permissions)),
        "github": given.github,
    }


def _read(connection: ReadConnection, condition: ColumnElement[bool]) -> list[Employee]:
    statement = select(employees).where(condition).order_by(employees.c.last_name, employees.c.id)
    return [
        Employee(
            id=row["id"],
            operation_id=row["operation"],
            first_name=row["first_name"],
            last_name=row["last_name"],
            permissions=msgspec.json.decode(row["permissions"], type=dict[str, bool]),
            github=row["github"],
            github_id=row["github_id"],
            former=msgspec.json.decode(row["former"], type=list[str]),
            access=row["access"],
            is_fired=row["fired_at"] is not None,
        )
        for row in connection.execute(statement).mappings()
    ]
