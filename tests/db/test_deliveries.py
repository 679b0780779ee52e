"""However many deliveries there have been, none of what is done to them reads them all."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, create_engine, event

from orderup.db.database import WriteConnection
from orderup.db.deliveries import Outcome, list_deliveries, read_due, register_target, settle, target_states
from orderup.db.tables import metadata
from orderup.model.delivery import DeliveryState

SHELF = "shelf"
PENDING, DELIVERED, FAILED = DeliveryState
Work = Callable[[WriteConnection], object]


@pytest.fixture
def connection() -> Iterator[Connection]:
    """Of SQLite, whose plans do not hang on how many rows there are."""
    engine = create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        register_target(WriteConnection(connection), SHELF, place="here", position=0)
        yield connection
    engine.dispose()


def plans_of(connection: Connection, work: Work) -> list[str]:
    statements: list[tuple[str, tuple[object, ...]]] = []

    def note(_connection: object, _cursor: object, text: str, given: tuple[object, ...], *_: object) -> None:
        statements.append((text, given))

    event.listen(connection, "before_cursor_execute", note)
    work(WriteConnection(connection))
    event.remove(connection, "before_cursor_execute", note)
    plans = [connection.exec_driver_sql(f"explain query plan {text}", given) for text, given in statements]
    return [row[3] for plan in plans for row in plan]


@pytest.mark.parametrize(
    "work",
    [
        lambda connection: read_due(connection, SHELF, now=5, most=9),
        target_states,
        lambda connection: settle(connection, SHELF, [Outcome(1, 2)], now=5),
        lambda connection: list_deliveries(connection, state=PENDING, most=5),
        lambda connection: list_deliveries(connection, state=FAILED, target=SHELF, most=5),
        lambda connection: list_deliveries(connection, operation_id=7, most=5),
        lambda connection: list_deliveries(connection, before=(7, SHELF), most=5),
    ],
)
def test_deliveries_are_looked_up(connection: Connection, work: Work) -> None:
    plans = plans_of(connection, work)
    assert any("SEARCH deliveries" in line for line in plans)
    assert not any("SCAN deliveries" in line or "PRIMARY KEY (target=?)" in line for line in plans), plans


@pytest.mark.parametrize(
    "work",
    [
        lambda connection: list_deliveries(connection, most=5),
        lambda connection: list_deliveries(connection, state=DELIVERED, most=5),
        lambda connection: list_deliveries(connection, target=SHELF, most=5),
    ],
)
def test_lists_are_read_from_their_end_and_never_sorted(connection: Connection, work: Work) -> None:
    assert not any("TEMP B-TREE" in line for line in plans_of(connection, work))
