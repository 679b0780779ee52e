"""From an order to its plan: user and product are looked up at the same time, then the order is saved."""

from collections.abc import Mapping
from datetime import timedelta

from msgspec.structs import replace

from orderup import Plan, PlannedTask, Retry, Shop
from orderup.model.kind import Kind
from orderup.settings import Settings

shop = Shop("mealbox", title="Meal boxes", about="Boxes for a week of dinners, ordered by code.")
FETCH_USER, FETCH_PRODUCT, SAVE = "fetch_user", "fetch_product", "save_order"
# What each field of an order names.
NOUNS = {"user_id": "user", "product_code": "product"}
# Between two tries: at most some twenty seconds over five attempts.
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(seconds=8)

WORDS = {
    "operation.placed": "We have your order",
    "operation.completed": "Your order is complete",
    "operation.errored": "Your order could not be completed; our staff looks into it",
    "operation.cancelled": "Your order was cancelled",
    "operation.retried": "We are trying your order again",
    "task.retrying": "This takes a little longer: we are asking once more",
}


def plan_order(user_id: str, product_code: str) -> Plan:
    return Plan(
        [
            PlannedTask(FETCH_USER, {"user_id": user_id}),
            PlannedTask(FETCH_PRODUCT, {"product_code": product_code}),
            PlannedTask(SAVE, after=[FETCH_USER, FETCH_PRODUCT]),
        ],
        words=WORDS,
    )


def adjust(settings: Settings, kinds: Mapping[str, Kind]) -> Mapping[str, Kind]:
    """As the owner has set it."""
    retry = Retry(attempts=settings.mealbox_attempts, first=FIRST_WAIT, longest=LONGEST_WAIT)
    # a call ends by its own deadline, and says so in its own words
    timeout = timedelta(seconds=settings.upstream_deadline_seconds + 5)
    fetches = {name: replace(kinds[name], retry=retry, timeout=timeout) for name in (FETCH_USER, FETCH_PRODUCT)}
    return {**kinds, **fetches}


shop.adjust = adjust
shop.example = lambda: plan_order("7c11e1ce2741", "classic-box")
