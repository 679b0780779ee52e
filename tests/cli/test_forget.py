"""`orderup forget`, and what the API says of the order after it. What it blanks is told in the pizzeria's tests."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orderup.model.plan import Plan, PlannedTask
from orderup.web.tokens import Role
from tests.cli.running import SECRET_KEY, run
from tests.serving import sqlite_url
from tests.web.house import DATABASES, client_of, open_test_house, place, settings_for, token_of

CHAIR = Plan.chain(PlannedTask("saw", params={"for": "Hypatia"}), PlannedTask("paint"))


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    found: str = request.getfixturevalue("postgres_database")
    return found


@pytest.mark.parametrize("path", ["/api/operations/{id}/retry", "/api/tasks/{id}-0/rerun"])
async def test_staff_that_tries_a_forgotten_order_again_reads_why_not(url: str, tmp_path: Path, path: str) -> None:
    async with open_test_house(settings_for(tmp_path, database_url=url)) as house:
        id = await place(house, CHAIR)
        worker = client_of(house.back, token=token_of(Role.WORKER))
        claim = {"worker": "w1", "shop": "workshop", "tasks": ["saw"]}
        [task] = (await worker.post("/api/work/claim", json=claim)).json()["tasks"]
        failed = {"token": task["token"], "error": "Hypatia called it off", "final": True}
        assert (await worker.post(f"/api/work/{task['id']}/fail", json=failed)).status_code == 200
        options: dict[str, Any] = {"DATABASE_URL": url, "SECRET_KEY": SECRET_KEY}
        told = await asyncio.to_thread(run, "forget", id, "--shop", "tests.web.house:shop", **options)
        assert (told.exit_code, told.stdout) == (0, f"{id}: forgotten\n"), told.output
        staff = client_of(house.back, token=token_of(Role.STAFF))
        before = (await staff.get(f"/api/operations/{id}")).json()
        assert (before["status"], before["tasks"][0]["params"]) == ("errored", None)
        answer = await staff.post(path.format(id=id), headers={"Idempotency-Key": "again"})
        assert answer.status_code == 409
        assert answer.json()["detail"] == (
            f"Operation {id} was forgotten: it cannot be tried again, since what its tasks need to know is gone. "
            "Place a new order instead."
        )
        assert (await staff.get(f"/api/operations/{id}")).json() == before
