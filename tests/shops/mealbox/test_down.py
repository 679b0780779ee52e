"""A service that is down as a whole, and one that says what nobody can keep."""

from typing import Any

import pytest

from orderup.db.database import WriteConnection
from orderup.errors import UpstreamFailed
from orderup.model.ids import read_id
from orderup.model.operation import Operation, OperationStatus
from orderup.model.task import TaskStatus
from orderup.sandbox.app import build_app
from orderup.sandbox.mealbox import Mealbox
from orderup.sandbox.server import listen, serve_app
from orderup.shops.mealbox.tables import accept_order, add_order, drop_order
from orderup.shops.mealbox.upstreams import _fullname, _product
from tests.services.ports import free_port
from tests.shops.mealbox.conftest import SCALE, Kiosk, open_kiosk


async def test_an_order_outlives_a_service_that_is_down_however_long(database_url: str) -> None:
    port = free_port()
    async with open_kiosk(database_url, product_service_url=f"http://127.0.0.1:{port}/mealbox") as kiosk:
        id = (await kiosk.order(prefer="respond-async")).json()["id"]

        def rests(operation: Operation) -> bool:
            """All of its attempts but the last have failed; or it has failed itself."""
            is_over = operation.status is OperationStatus.ERRORED
            return is_over or any(each.failures >= 4 and each.status is TaskStatus.WAITING for each in operation.tasks)

        await kiosk.until_stands(read_id(id), rests)
        for _ in range(2):  # whoever looks whether it is back has not failed, either
            looks = await count_looks(kiosk, id)
            await kiosk.until_stands(read_id(id), lambda operation, looks=looks: attempts(operation) > looks)  # type: ignore[misc]
        assert (await kiosk.read(id))["status"] == "pending"
        with listen(port) as listener:
            async with serve_app(build_app([Mealbox(scale=SCALE)], []), listener):
                await kiosk.until_stands(read_id(id), lambda operation: operation.status is OperationStatus.COMPLETED)


def attempts(operation: Operation) -> int:
    return sum(each.attempt for each in operation.tasks)


async def count_looks(kiosk: Kiosk, id: str) -> int:
    return attempts((await kiosk.house.database.load([read_id(id)]))[read_id(id)])


@pytest.mark.parametrize("price", [True, -1, 10**12, "9.99", None])
def test_a_product_without_a_price_that_anybody_would_pay_is_none(price: Any) -> None:
    with pytest.raises(UpstreamFailed, match="without a name and a price"):
        _product({"code": "x", "name": "The box", "price": price})


@pytest.mark.parametrize("text", ["The\0box", "The \ud83d box"])
def test_a_text_that_cannot_be_kept_is_none(text: str) -> None:
    with pytest.raises(UpstreamFailed, match="without a name and a price"):
        _product({"code": "x", "name": text, "price": 1})
    with pytest.raises(UpstreamFailed, match="without firstName and lastName"):
        _fullname({"id": "x", "firstName": "Ada", "lastName": text})


async def test_what_its_customer_was_told_of_is_not_dropped(kiosk: Kiosk) -> None:
    ids = {name: 1_000 + number for number, name in enumerate(("told", "untold"))}

    def write(connection: WriteConnection) -> dict[str, bool]:
        for id in ids.values():
            add_order(connection, id, user_id="u", product_code="classic-box", is_accepted=False)
        assert accept_order(connection, ids["told"])
        return {name: drop_order(connection, id) for name, id in ids.items()}

    assert await kiosk.house.database.write(write) == {"told": False, "untold": True}
