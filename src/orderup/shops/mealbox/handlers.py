"""What is done for an order: two look-ups, then it is saved."""

from typing import Any

from orderup import Context, TaskFailed
from orderup.db.database import WriteConnection
from orderup.model.ids import read_id
from orderup.shops.mealbox.plan import FETCH_PRODUCT, FETCH_USER, NOUNS, shop
from orderup.shops.mealbox.tables import complete_order, drop_order
from orderup.shops.mealbox.upstreams import Upstreams


@shop.handler(says="Looking up who you are", third_party="user service")
async def fetch_user(context: Context) -> Any:
    upstreams: Upstreams = context.resources
    fullname = await upstreams.find_user(context.params["user_id"])
    return None if fullname is None else {"fullname": fullname}


@shop.handler(says="Looking up your box", third_party="product service")
async def fetch_product(context: Context) -> Any:
    upstreams: Upstreams = context.resources
    product = await upstreams.find_product(context.params["product_code"])
    return None if product is None else {"name": product.name, "price": str(product.price)}


@shop.step(says="Saving your order")
def save_order(connection: WriteConnection, context: Context) -> Any:
    """Without such a user or product an order that its customer was told of has failed; another one never was."""
    operation_id = read_id(context.operation_id)
    user, product = context.inputs[FETCH_USER], context.inputs[FETCH_PRODUCT]
    unknown = [field for field, found in zip(NOUNS, (user, product), strict=True) if found is None]
    if not unknown:
        complete_order(
            connection,
            operation_id,
            customer_fullname=user["fullname"],
            product_name=product["name"],
            total_amount=product["price"],
        )
        return None
    if not drop_order(connection, operation_id):
        nouns = " and no such ".join(NOUNS[field] for field in unknown)
        raise TaskFailed(f"There is no such {nouns}", final=True)
    return {"unknown": unknown}
