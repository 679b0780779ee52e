"""Placing and changing: once by a key, all or nothing, and only from the version that a change was worked out from."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec.structs import replace
from sqlalchemy import func, select

from orderup.db.database import Change, Database, GateClosed, Key, KeyTaken, Placing, WriteConnection, change_of
from orderup.db.tables import events, facts, keys, operations, tasks
from orderup.errors import Invalid
from orderup.model import steer, work
from orderup.model.ids import new_operation_id
from orderup.model.operation import Draft, Operation
from orderup.model.placing import place
from orderup.model.plan import Plan, PlannedTask
from tests.engine.conftest import Doors
from tests.engine.kitchen import CHAIN, DIAMOND, HOUR, KINDS, NOON, SHOP, key_of


def placing_of(
    plan: Plan = CHAIN, *, key: Key | None = None, also: Callable[[WriteConnection], None] | None = None
) -> Placing:
    draft = place(plan, id=new_operation_id(NOON), shop=SHOP, kinds=KINDS, now=NOON, rfa_within=HOUR)
    return Placing(draft.result(), draft.events, key, also)


def started(operation: Operation, position: int = 0, *, token: str = "a token") -> Change:
    draft = Draft(operation)
    work.start(draft, position, worker="ann", token=token, now=NOON)
    return change_of(draft, limited=lambda _: False)


async def placed(database: Database, plan: Plan = CHAIN) -> Operation:
    placing = placing_of(plan)
    assert await database.place(placing) is None
    return placing.operation


async def count(database: Database) -> dict[str, int]:
    tables = (operations, tasks, events, keys, facts)
    return await database.read(
        lambda connection: {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables
        }
    )


async def numbers_by_seq(database: Database, operation_id: int) -> list[int]:
    statement = select(events.c.n).where(events.c.operation_id == operation_id).order_by(events.c.seq)
    return await database.read(lambda connection: list(connection.execute(statement).scalars()))


async def test_what_was_placed_is_loaded_as_it_was(database: Database) -> None:
    operation = await placed(database, DIAMOND)
    assert await database.load([operation.id]) == {operation.id: operation}


async def test_an_unknown_operation_is_not_loaded(database: Database) -> None:
    operation = await placed(database)
    assert set(await database.load([operation.id, 17])) == {operation.id}


async def test_rows_are_looked_up_by_their_numbers(database: Database) -> None:
    some, other = [await placed(database) for _ in range(3)], await placed(database)
    found = await database.look_up(operations, [*(operation.id for operation in some), 17])
    assert set(found) == {operation.id for operation in some}
    statement = select(operations).where(operations.c.id != other.id)
    rows = await database.read(lambda connection: connection.execute(statement).mappings().all())
    assert found == {row["id"]: {**row} for row in rows}
    assert await database.look_up(operations, []) == {}


async def test_a_change_is_loaded_as_it_left_the_operation(database: Database) -> None:
    change = started(await placed(database))
    assert await database.change(change) is None
    assert await database.load([change.after.id]) == {change.after.id: change.after}


async def test_of_two_changes_from_one_version_one_is_refused_and_leaves_no_trace(database: Database) -> None:
    operation = await placed(database)
    first, second = started(operation, token="first"), started(operation, token="second")
    outcomes = await asyncio.gather(database.change(first), database.change(second))
    # they may go over different connections
    assert list(outcomes) in ([None, GateClosed()], [GateClosed(), None])
    accepted = first if outcomes[0] is None else second
    assert await database.load([operation.id]) == {operation.id: accepted.after}
    assert (await count(database))["events"] == operation.version + 1


async def test_changes_of_two_processes_from_one_version_are_accepted_once(doors: Doors) -> None:
    operation = await placed(doors.first)
    many = [await doors.open() for _ in range(4)]
    changes = [started(operation, token=f"of door {door}") for door in range(len(many))]
    outcomes = await asyncio.gather(*(door.change(change) for door, change in zip(many, changes, strict=True)))
    assert sorted(map(repr, outcomes)) == ["GateClosed()"] * 3 + ["None"]
    [accepted] = [change for change, outcome in zip(changes, outcomes, strict=True) if outcome is None]
    assert await doors.first.load([operation.id]) == {operation.id: accepted.after}


async def test_a_thousand_operations_go_in_at_once_and_are_changed_at_once(database: Database) -> None:
    placings = [placing_of() for _ in range(1_000)]
    assert await asyncio.gather(*map(database.place, placings)) == [None] * 1_000
    changes = [started(placing.operation) for placing in placings]
    assert await asyncio.gather(*map(database.change, changes)) == [None] * 1_000
    assert await database.load([change.after.id for change in changes]) == {
        change.after.id: change.after for change in changes
    }


async def test_operations_of_very_many_tasks_go_in_at_once(database: Database) -> None:
    wide = Plan([PlannedTask(f"piece {number}", kind="dough") for number in range(3_000)])
    placings = [placing_of(wide) for _ in range(10)]
    assert await asyncio.gather(*map(database.place, placings)) == [None] * 10
    found = await database.load([placing.operation.id for placing in placings])
    assert found == {placing.operation.id: placing.operation for placing in placings}


async def test_refused_changes_do_not_hold_up_those_beside_them(database: Database) -> None:
    stale, fresh = [await placed(database) for _ in range(20)], [await placed(database) for _ in range(20)]
    await asyncio.gather(*(database.change(started(each)) for each in stale))
    mixed = [started(each, token="again") for pair in zip(stale, fresh, strict=True) for each in pair]
    assert await asyncio.gather(*map(database.change, mixed)) == [GateClosed(), None] * 20


async def test_an_operations_events_are_in_the_log_in_their_order(database: Database) -> None:
    placings = [placing_of(DIAMOND) for _ in range(50)]
    await asyncio.gather(*map(database.place, placings))
    changes = []
    for placing in placings:
        draft = Draft(placing.operation)
        for name in ("first", "second"):
            work.start(draft, 0, worker="ann", token=name, now=NOON)
            work.hand_back(draft, 0, token=name, now=NOON)
        changes.append(change_of(draft, limited=lambda _: False))
    await asyncio.gather(*map(database.change, changes))
    for placing in placings:
        order = await numbers_by_seq(database, placing.operation.id)
        assert order == list(range(1, 6))


async def test_a_key_places_one_operation_however_many_ask_at_once(doors: Doors) -> None:
    many = [await doors.open() for _ in range(3)]
    placings = [placing_of(key=key_of("once")) for _ in range(30)]
    outcomes = await asyncio.gather(*(many[i % 3].place(each) for i, each in enumerate(placings)))
    [winner] = [each for each, outcome in zip(placings, outcomes, strict=True) if outcome is None]
    taken = KeyTaken(winner.operation.id, "the same request")
    assert [outcome for outcome in outcomes if outcome is not None] == [taken] * 29
    assert (await count(doors.first))["operations"] == 1


async def test_a_key_places_one_operation_when_each_writes_rows_of_its_shop(doors: Doors) -> None:
    many = [await doors.open() for _ in range(3)]
    placings = [placing_of(key=key_of("once"), also=fact(f"row {i}")) for i in range(12)]
    outcomes = await asyncio.gather(*(many[i % 3].place(each) for i, each in enumerate(placings)))
    assert sum(outcome is None for outcome in outcomes) == 1
    assert await count(doors.first) == {"operations": 1, "tasks": 3, "events": 1, "keys": 1, "facts": 1}


def fact(name: str, *, fails: bool = False) -> Callable[[WriteConnection], None]:
    def write(connection: WriteConnection) -> None:
        connection.execute(facts.insert().values(name=name, value=1))
        if fails:
            raise LookupError(name)

    return write


async def test_rows_of_a_shop_are_written_with_the_operation_or_not_at_all(database: Database) -> None:
    placings = [placing_of(also=fact(str(i), fails=i == 3), key=key_of(str(i))) for i in range(6)]
    outcomes = await asyncio.gather(*map(database.place, placings), return_exceptions=True)
    assert [repr(outcome) for outcome in outcomes] == ["None"] * 3 + ["LookupError('3')"] + ["None"] * 2
    assert await count(database) == {"operations": 5, "tasks": 15, "events": 5, "keys": 5, "facts": 5}


async def test_rows_of_a_shop_are_written_with_a_change_or_not_at_all(database: Database) -> None:
    operation = await placed(database)
    change = started(operation)
    refused = replace(change, key=key_of("refused"), also=fact("refused"))
    accepted = replace(change, key=key_of("accepted"), also=fact("accepted"))
    failed = replace(change, key=key_of("failed"), also=fact("failed", fails=True))
    with pytest.raises(LookupError):
        await database.change(failed)
    assert await database.change(accepted) is None
    assert await database.change(refused) == GateClosed()
    assert await database.change(accepted) == KeyTaken(operation.id, "the same request")
    assert await count(database) == {"operations": 1, "tasks": 3, "events": 2, "keys": 1, "facts": 1}


async def test_a_function_that_fails_leaves_nothing_of_what_it_wrote(database: Database) -> None:
    operation = await placed(database)

    def write(connection: WriteConnection) -> None:
        assert connection.place(placing_of(key=key_of("inside"))) is None
        assert connection.change(started(operation)) is None
        connection.execute(facts.insert().values(name="inside", value=1))
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(write)
    assert await count(database) == {"operations": 1, "tasks": 3, "events": 1, "keys": 0, "facts": 0}


async def test_a_function_places_changes_and_writes_in_one_transaction(database: Database) -> None:
    operation, placing = await placed(database), placing_of(key=key_of("inside"))

    def write(connection: WriteConnection) -> list[object]:
        return [
            connection.place(placing),
            connection.place(placing_of(key=key_of("inside"))),
            connection.change(started(operation)),
            connection.change(started(operation)),
            connection.insert_or_ignore(facts, {"name": "inside", "value": 1}),
            connection.insert_or_ignore(facts, {"name": "inside", "value": 2}),
        ]

    taken = KeyTaken(placing.operation.id, "the same request")
    assert await database.write(write) == [None, taken, None, GateClosed(), True, False]
    assert await count(database) == {"operations": 2, "tasks": 6, "events": 3, "keys": 1, "facts": 1}


async def test_a_text_that_cannot_be_stored_fails_alone(database: Database) -> None:
    good = [await placed(database) for _ in range(9)]
    bad = await placed(database)
    draft = Draft(bad)
    steer.cancel(draft, now=NOON, reason="half a character: \ud83c")
    changes = [*map(started, good[:5]), change_of(draft, limited=lambda _: False), *map(started, good[5:])]
    outcomes = await asyncio.gather(*map(database.change, changes), return_exceptions=True)
    assert outcomes[:5] + outcomes[6:] == [None] * 9
    assert isinstance(outcomes[5], Invalid | UnicodeError)
    assert await database.load([bad.id]) == {bad.id: bad}
