"""Forgetting: what is personal in an order is blanked, for good; that there was such an order stays.

Names and addresses are in the shop's rows and in the parameters of the tasks that need them; results, notes and error
messages may repeat them. The order's key and owner go, too: its customer's links open nothing from here on. Nor can
staff try it again: its tasks would not know what to do.
"""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import select, update

from orderup.db.database import WriteConnection
from orderup.db.tables import events, operations, rfas, tasks
from orderup.engine.engine import Engine
from orderup.errors import Conflict, Misconfigured, NotFound
from orderup.model.event import EVENT_TYPES
from orderup.model.ids import show_id
from orderup.model.operation import OperationStatus

# The parameters of a task once they were forgotten. No plan stores this: without parameters it stores `{}`.
FORGOTTEN = "null"
# Blanks what is personal in a shop's own rows of operations.
ShopForget = Callable[[WriteConnection, Sequence[int]], None]
FINAL = [status.value for status in OperationStatus if status.is_final]
# Reasons that orderup itself gives; any other may hold words of a person or of a failing program.
PLAIN_REASONS = ("declined", "expired")
# Events whose message repeats a person's note or a program's error.
TELLING = ("rfa.declined", "task.errored")


async def forget_order(engine: Engine, operation_id: int, *, shops: Mapping[str, ShopForget | None]) -> None:
    """Blank what is personal in an order that has ended. `shops`: by name, what blanks their own rows, if any.

    Raises NotFound, Misconfigured if the order's shop is none of them, and Conflict while the order is under way: its
    workers still need to know. Done again, it changes nothing.
    """

    def forget(connection: WriteConnection) -> None:
        _end_ownership(connection, operation_id, shops)
        blank = {"params": FORGOTTEN, "result": None, "memo": None, "error": None}
        connection.execute(update(tasks).where(tasks.c.operation_id == operation_id).values(blank))
        connection.execute(update(rfas).where(rfas.c.operation_id == operation_id).values(notes=None))
        for type in TELLING:
            told = (events.c.operation_id == operation_id) & (events.c.type == type)
            connection.execute(update(events).where(told).values(message=EVENT_TYPES[type][1]))

    await engine.database.write(forget)


def refuse_if_forgotten(connection: WriteConnection, operation_id: int) -> None:
    """Raises Conflict if there is nothing left to do this order with.

    To be asked in the transaction that would set it going: forgetting raises no version, so the gate lets through
    what was worked out before.
    """
    blanked = select(tasks.c.position).where(tasks.c.operation_id == operation_id, tasks.c.params == FORGOTTEN).limit(1)
    if connection.rows(blanked):
        raise Conflict(
            f"Operation {show_id(operation_id)} was forgotten: it cannot be tried again, since what its tasks need to "
            "know is gone. Place a new order instead."
        )


def _end_ownership(connection: WriteConnection, operation_id: int, shops: Mapping[str, ShopForget | None]) -> None:
    """Of the operation's own row, and of the shop's."""
    here = operations.c.id == operation_id
    row = connection.execute(select(operations.c.shop, operations.c.reason).where(here)).one_or_none()
    if row is None:
        raise NotFound("operation", show_id(operation_id))
    if row.shop not in shops:
        raise Misconfigured(
            f"Order {show_id(operation_id)} is of the shop {row.shop}, which is not installed here: only the shop "
            "knows what of its rows is personal. Install it, or name it as package.module:shop."
        )
    reason = row.reason if row.reason in PLAIN_REASONS else None
    blank = {"owner": None, "client": None, "key_hash": None, "key_salt": None, "reason": reason}
    # The status is asked for in the write: an order that staff retries at this moment is under way.
    ended = connection.execute(update(operations).where(here, operations.c.status.in_(FINAL)).values(blank))
    if not ended.rowcount:
        raise Conflict(
            f"Order {show_id(operation_id)} is under way: its workers still need to know. Cancel it first, or wait."
        )
    if (forget_rows := shops[row.shop]) is not None:
        forget_rows(connection, [operation_id])
