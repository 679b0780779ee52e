"""What the server has written down of a day, to be compared with what everybody saw."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from orderup.cli.simulation.stage import Stage
from orderup.web.tokens import Role

AT_ONCE = 20
LOG_SECONDS = 30.0


async def fetch_operations(stage: Stage, ids: Sequence[str]) -> list[dict[str, Any]]:
    """With their tasks, as staff sees them."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def fetch(id: str) -> dict[str, Any]:
        async with gate:
            operation: dict[str, Any] = await stage.ask("GET", f"{stage.api}/api/operations/{id}", role=Role.STAFF)
            return operation

    return list(await asyncio.gather(*(fetch(id) for id in ids)))


async def count_completions(stage: Stage, operations: Sequence[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """How often each task of these was completed, by the log."""
    completions: Counter[tuple[str, str]] = Counter()
    lengths: dict[str, int] = {each["id"]: each["n"] for each in operations}
    missing = sum(lengths.values())
    if not missing:
        return completions
    headers = {"Authorization": f"Bearer {stage.tokens[Role.STAFF]}"} if Role.STAFF in stage.tokens else {}
    async with (
        asyncio.timeout(LOG_SECONDS + missing / 1_000),
        stage.client.stream("GET", f"{stage.api}/api/events?after=0", headers=headers) as answer,
    ):
        async for line in answer.aiter_lines():
            if not line.startswith("data: "):
                continue
            event = msgspec.json.decode(line.removeprefix("data: "))
            if event["type"] == "task.completed" and event["operation_id"] in lengths:
                completions[event["operation_id"], event["task"]] += 1
            missing -= event["operation_id"] in lengths
            if not missing:
                break
    return completions
