"""How claims are kept alive: by heartbeats, or by the one lease of their executor."""

import asyncio
from datetime import timedelta

import pytest

from orderup.db.tables import workers
from orderup.engine.lease import (
    Seen,
    WorkerBook,
    beat_executor,
    heartbeat,
    held_by,
    is_known_dead,
    note_workers,
    process_identity,
    sign_off,
)
from orderup.engine.rescue import forget_workers
from orderup.engine.steer import cancel_operation, pause_operation
from orderup.errors import NotFound, StaleToken
from orderup.model.operation import OperationStatus
from tests.engine.child import Child
from tests.engine.kitchen import CHAIN, HOUR, NOON, Kitchen, Time, place_of, token_of
from tests.services.waiting import PATIENCE_SECONDS

SECOND = timedelta(seconds=1)
LEASE = timedelta(seconds=30)


async def test_a_heartbeat_extends_the_lease_and_changes_nothing_else(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    before = await kitchen.operation(order)
    time.advance(10 * SECOND)
    beat = await heartbeat(kitchen.engine, *place_of(claimed), token=token_of(claimed))
    assert (beat.lease_seconds, beat.operation_status) == (30.0, OperationStatus.RUNNING)
    task = await kitchen.task(order, "dough")
    assert task.lease_until == NOON + 40_000_000
    assert (await kitchen.operation(order)).version == before.version


async def test_a_heartbeat_tells_that_the_order_was_paused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await pause_operation(kitchen.engine, order.id)
    beat = await heartbeat(kitchen.engine, *place_of(claimed), token=token_of(claimed))
    assert beat.operation_status is OperationStatus.PAUSED


async def test_a_heartbeat_after_the_claim_ended_is_refused_with_the_reason(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    await cancel_operation(kitchen.engine, order.id, reason="enough")
    async with kitchen.refused(StaleToken, order, match="cancelled"):
        await heartbeat(kitchen.engine, *place_of(claimed), token=token_of(claimed))


async def test_a_heartbeat_of_somebody_elses_claim_is_refused(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    async with kitchen.refused(StaleToken, order):
        await heartbeat(kitchen.engine, *place_of(claimed), token="made up")


async def test_a_heartbeat_for_what_is_not_there_or_of_another_shop_is_not_found(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    async with kitchen.refused(NotFound, order):
        await heartbeat(kitchen.engine, *place_of(claimed), token=token_of(claimed), shop="another shop")
    for place in ((7, 0), (order.id, 99)):
        with pytest.raises(NotFound):
            await heartbeat(kitchen.engine, *place, token="t")


async def test_a_completion_after_a_heartbeat_is_accepted(kitchen: Kitchen, time: Time) -> None:
    order = await kitchen.place(CHAIN)
    claimed = await kitchen.take("dough")
    time.advance(SECOND)
    await heartbeat(kitchen.engine, *place_of(claimed), token=token_of(claimed))
    await kitchen.complete(claimed)
    assert await kitchen.state(order) == "running: dough completed, top pending, bake blocked"


# Executors.


async def test_the_first_beat_registers_an_executor_and_the_next_ones_move_its_lease(
    kitchen: Kitchen, time: Time
) -> None:
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    time.advance(SECOND)
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    [row] = await kitchen.rows(workers)
    assert (row["id"], row["kind"], row["beat"], row["lease_us"]) == ("local-1", "local", 2, 30_000_000)
    assert (row["first_seen_at"], row["seen_at"], row["process"]) == (NOON, NOON + 1_000_000, process_identity())


async def test_an_executor_holds_what_it_claimed_under_its_own_lease_until_it_is_done(kitchen: Kitchen) -> None:
    order = await kitchen.place(CHAIN)
    await kitchen.place(CHAIN)
    mine = await kitchen.take("dough", worker="local-1", own_lease=True)
    await kitchen.take("dough", worker="local-1")
    held = await kitchen.database.read(lambda connection: held_by(connection, "local-1"))
    assert held == [(order.id, 0, token_of(mine))]
    await kitchen.complete(mine)
    assert await kitchen.database.read(lambda connection: held_by(connection, "local-1")) == []


async def test_an_executor_that_holds_nothing_signs_off_and_leaves_no_lease(kitchen: Kitchen) -> None:
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    await sign_off(kitchen.engine, "local-1")
    assert await kitchen.rows(workers) == []


async def test_an_executor_that_still_holds_something_keeps_its_lease_so_that_it_is_found(kitchen: Kitchen) -> None:
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    await kitchen.place(CHAIN)
    await kitchen.take("dough", worker="local-1", own_lease=True)
    await sign_off(kitchen.engine, "local-1")
    assert [row["id"] for row in await kitchen.rows(workers)] == ["local-1"]


# Who was heard of.


async def test_workers_that_were_heard_of_are_listed_with_shop_and_region(kitchen: Kitchen) -> None:
    await note_workers(kitchen.engine, {"ann": Seen("remote", "diner", "rome"), "bob": Seen("remote", "diner", None)})
    listed = {row["id"]: (row["kind"], row["shop"], row["region"]) for row in await kitchen.rows(workers)}
    assert listed == {"ann": ("remote", "diner", "rome"), "bob": ("remote", "diner", None)}


async def test_the_book_writes_down_who_was_heard_of(kitchen: Kitchen) -> None:
    book = WorkerBook(kitchen.engine)
    for _ in range(1_000):
        book.note("ann", Seen("remote", "diner", None))
    is_written = asyncio.Event()
    kitchen.database.on_commit(is_written.set)
    writing = asyncio.ensure_future(book.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await is_written.wait()
    writing.cancel()
    [row] = await kitchen.rows(workers)
    assert (row["id"], row["beat"]) == ("ann", 1)


async def test_remote_workers_not_heard_of_for_an_hour_leave_the_list(kitchen: Kitchen, time: Time) -> None:
    await note_workers(kitchen.engine, {"ann": Seen("remote", "diner", None)})
    await beat_executor(kitchen.engine, "local-1", kind="local", lease=LEASE)
    time.advance(HOUR)
    await note_workers(kitchen.engine, {"bob": Seen("remote", "diner", None)})
    await forget_workers(kitchen.engine)
    assert {row["id"] for row in await kitchen.rows(workers)} == {"ann", "bob", "local-1"}
    time.advance(SECOND)
    await forget_workers(kitchen.engine)
    assert {row["id"] for row in await kitchen.rows(workers)} == {"bob", "local-1"}


# Which process it was.


def test_this_process_is_not_dead() -> None:
    assert process_identity() is not None
    assert not is_known_dead(process_identity())


def test_a_process_that_ended_is_known_to_be_dead() -> None:
    with Child() as child:
        assert not is_known_dead(child.identity)
        child.die()
        assert is_known_dead(child.identity), "one that nobody has waited for yet is dead, too"
    assert is_known_dead(child.identity)


def test_another_process_that_got_the_same_number_is_not_taken_for_the_first() -> None:
    here = process_identity()
    assert here is not None
    host, pid, started = here.rsplit(":", 2)
    assert is_known_dead(f"{host}:{pid}:{int(started) - 1}")


@pytest.mark.parametrize("identity", [None, "another-boot/pid:[1]:1:1", "another-boot/pid:[1]:999999999:1"])
def test_of_a_process_elsewhere_or_unknown_nothing_is_known(identity: str | None) -> None:
    assert not is_known_dead(identity)
