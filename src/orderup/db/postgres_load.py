"""Operations with their tasks and RFAs, many at once, as one PostgreSQL statement; and rows of a shop."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Table

from orderup.db.database import sole_key
from orderup.db.postgres_batch import quoted
from orderup.db.rows import OPERATION_COLUMNS, RFA_COLUMNS, TASK_COLUMNS, assemble
from orderup.model.operation import Operation

_JOINED = (("o", OPERATION_COLUMNS), ("t", TASK_COLUMNS), ("r", RFA_COLUMNS))
# one statement sees one moment
LOAD = f"""
select {", ".join(quoted(columns, of=alias) for alias, columns in _JOINED)} from operations o
left join tasks t on t.operation_id = o.id left join rfas r on r.operation_id = o.id
where o.id = any($1::bigint[]) order by o.id, t.position
"""
_TASK_AT, _RFA_AT = len(OPERATION_COLUMNS), len(OPERATION_COLUMNS) + len(TASK_COLUMNS)


def read_loaded(rows: Sequence[Any]) -> Mapping[int, Operation]:
    """Of the rows that LOAD gives."""
    operations = {row[0]: row[:_TASK_AT] for row in rows}
    tasks = [task for row in rows if (task := row[_TASK_AT:_RFA_AT])[0] is not None]
    rfas = {row[0]: rfa for row in rows if (rfa := row[_RFA_AT:])[0] is not None}
    return assemble(operations.values(), tasks, rfas.values())


@cache
def look_up_text(table: Table) -> str:
    """Whole rows, by the numbers of their key."""
    where = f"{quoted([sole_key(table)])} = any($1::bigint[])"
    return f"select {quoted(table.columns.keys())} from {quoted([table.name])} where {where}"
