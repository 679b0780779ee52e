"""Who develops the bakery's software: invited to its repository when he is hired, let go when he is fired.

What is done follows from what somebody is when it is done, not from what was changed: a dismissal that overtakes an
employment wins, and the same done twice is done once.
"""

from typing import Any

from orderup import Context
from orderup.db.database import WriteConnection
from orderup.errors import TaskFailed, UpstreamFailed
from orderup.integrations.github import GitHub
from orderup.model.ids import read_id
from orderup.shops.bakery.employees import Employee, developers, employee_of, note_access, same_login
from orderup.shops.bakery.plan import NOTE_ACCESS, PATIENT, STUBBORN, SYNC_ACCESS, shop
from orderup.shops.bakery.services import Services

INVITED, MEMBER = "invited", "member"


@shop.handler(SYNC_ACCESS, says="Bringing GitHub in line", retry=STUBBORN, within=PATIENT, concurrency=1)
async def sync_access(context: Context) -> Any:
    """What he may do there now, and which account that is."""
    operation_id = read_id(context.operation_id)
    employee = await context.read(lambda connection: employee_of(connection, operation_id))
    if employee is None:
        return None  # somebody has changed him since, and that has an operation of its own
    services: Services = context.resources
    # a login may be another one's, too: by mistake, or because he is employed twice
    needed = await context.read(developers)
    gone = [*employee.former, *([employee.github] if employee.github and employee.is_fired else [])]
    for login in gone:
        if login.casefold() not in needed:
            id = employee.github_id if same_login(login, employee.github) else None
            await _shut_out(services.github, login, id=id)
    if employee.may_develop:
        return await _let_in(context, services.github, employee)
    return {"access": None, "github_id": employee.github_id}


@shop.step(NOTE_ACCESS, says="Noting it")
def note_his_access(connection: WriteConnection, context: Context) -> None:
    synced = context.inputs[SYNC_ACCESS]
    if synced is not None:
        note_access(connection, read_id(context.operation_id), **synced)


async def _let_in(context: Context, github: GitHub, employee: Employee) -> dict[str, Any]:
    login = employee.github or ""
    user = await github.find_user(login)
    if user is None or user.type != "User":
        raise TaskFailed(f"GitHub has no user {login}: correct the employee's login.", final=True)
    if employee.github_id is not None and employee.github_id != user.id:
        raise TaskFailed(
            f"The login {login} belongs to another account than when it was first used: find out whose it is.",
            final=True,
        )
    if await github.is_collaborator(login):
        return {"access": MEMBER, "github_id": user.id}
    for invitation in await github.invitations():
        if invitation.user_id == user.id:
            if not invitation.is_expired:
                return {"access": INVITED, "github_id": user.id}
            await github.withdraw(invitation.id)
    await context.heartbeat()  # whoever was stopped for long is not to let in who has been fired meanwhile
    access = await github.invite(login)
    return {"access": INVITED if access == "invited" else MEMBER, "github_id": user.id}


async def _shut_out(github: GitHub, login: str, *, id: int | None) -> None:
    """The invitation first: whoever accepts it in between is removed all the same. id: of the account that had this
    login, if it is known: an account that has another one by now cannot be removed by it."""
    for invitation in await github.invitations():
        if (id is not None and invitation.user_id == id) or same_login(invitation.login, login):
            await github.withdraw(invitation.id)
    user = None if id is None else await github.find_user(login)
    if user is not None and user.id != id:
        raise TaskFailed(
            f"The login {login} belongs to another account than when it was first used: remove by hand whoever has it "
            "no more.",
            final=True,
        )
    await github.remove(login)
    if await github.is_collaborator(login):
        raise UpstreamFailed(f"GitHub still lets {login} in")
