"""Which placings and changes are in the database, after a connection was lost in mid-commit.

An item is there if its last event is, told by operation, `n`, time and type. That is asked only once the server has let
go of the lost connection: from then on the answer cannot change.
"""

from collections.abc import Sequence
from typing import Any

from orderup.db.database import Change, Placing
from orderup.db.postgres_link import DRIVER_ERRORS, Link, end_backend, is_lost

_STORED = """
select e.operation_id, e.n, e.at, e.type from events e
join unnest($1::bigint[], $2::integer[]) as u(operation_id, n) on e.operation_id = u.operation_id and e.n = u.n
"""


async def settle(link: Link, items: Sequence[Placing | Change], *, pid: int, born: Any) -> list[bool]:
    """For each item whether it was committed by the backend `pid`, `born` then. Waits for the server to come back."""
    last = [item.events[-1] for item in items]
    while True:
        session = await link.connect_some_day()
        try:
            await end_backend(session, pid, born)
            rows = await session.fetch(_STORED, [event.operation_id for event in last], [event.n for event in last])
        except DRIVER_ERRORS as error:
            if not is_lost(error):
                raise
            link.drop()
            continue
        stored = {tuple(row) for row in rows}
        return [(event.operation_id, event.n, event.at, event.type) in stored for event in last]
