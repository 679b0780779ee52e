"""A process of its own that claims from limited queues until nothing is left, and tells how much it got of each."""

import asyncio
import sys

from orderup.engine.claim import ClaimDesk, queues_for
from tests.engine.conftest import open_url
from tests.engine.kitchen import SHOP, Kitchen, Time
from tests.engine.test_limit import QUICK

# Longer than a window of the rate: who gets nothing for so long has seen the end.
PATIENCE_SECONDS = 1.5


async def claim_from(kitchen: Kitchen, desk: ClaimDesk, kind: str, *, completes: bool) -> int:
    got = 0
    while some := await desk.claim(
        queues_for(SHOP, [kind], None), worker="claimer", most=3, wait_seconds=PATIENCE_SECONDS
    ):
        got += len(some)
        if completes:
            await asyncio.gather(*(kitchen.complete(each) for each in some))
    return got


async def main(url: str) -> None:
    database = open_url(url)
    await database.open()
    kitchen = Kitchen(database, Time(), kinds=QUICK)
    async with asyncio.TaskGroup() as group:
        desk = ClaimDesk(kitchen.engine, group)
        watching = group.create_task(kitchen.engine.run())
        phone, oven = await asyncio.gather(
            claim_from(kitchen, desk, "phone", completes=False), claim_from(kitchen, desk, "oven", completes=True)
        )
        watching.cancel()
        desk.close()
    await database.close()
    print(phone, oven)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
