"""DBOS: a workflow of four steps, checkpointed in PostgreSQL, all workflows started at once on its event loop."""

import asyncio

from dbos import DBOS, DBOSConfig

from bench.contenders.figures import clock, told, wanted

# Workflows in flight: more of them only wait for connections.
MOST_AT_ONCE = 200


@DBOS.step()
async def do_nothing() -> None:
    return


@DBOS.workflow()
async def order() -> None:
    for _ in range(4):
        await do_nothing()


async def measure(orders: int, lone: int) -> None:
    await (await DBOS.start_workflow_async(order)).get_result()
    room = asyncio.Semaphore(MOST_AT_ONCE)

    async def one() -> None:
        async with room:
            handle = await DBOS.start_workflow_async(order)
            await handle.get_result(polling_interval_sec=0.01)

    began = clock()
    async with asyncio.TaskGroup() as group:
        for _ in range(orders):
            group.create_task(one())
    seconds = clock() - began
    lone_seconds = []
    for _ in range(lone):
        began = clock()
        await order()
        lone_seconds.append(clock() - began)
    told(orders=orders, seconds=seconds, lone_seconds=lone_seconds)


def main() -> None:
    where, orders, lone = wanted()
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": where,
        "log_level": "ERROR",
        "sys_db_pool_size": 20,
        "use_listen_notify": True,
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        asyncio.run(measure(orders, lone))
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
