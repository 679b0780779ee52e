"""Which work remote workers get."""

from pathlib import Path

from orderup.web.tokens import Role
from tests.web.house import client_of, open_test_house, place, settings_for, token_of


async def test_what_a_handler_does_is_no_work_for_workers(tmp_path: Path) -> None:
    """A worker's word is not taken for what a handler has done, nor for a step's rows."""
    async with (
        open_test_house(settings_for(tmp_path)) as house,
        client_of(house.back, token=token_of(Role.WORKER)) as client,
    ):
        await place(house)
        body = {"worker": "mallory", "shop": "workshop", "tasks": ["saw", "glue"]}
        refused = await client.post("/api/work/claim", json=body)
        assert refused.status_code == 422
        [problem] = refused.json()["errors"]
        assert problem["field"] == "body.tasks.1"
        told = "Shop workshop has a handler of its own for glue. Workers do: saw, paint, polish."
        assert problem["message"] == told
        [task] = (await client.post("/api/work/claim", json={**body, "tasks": ["saw"]})).json()["tasks"]
        assert task["kind"] == "saw"
