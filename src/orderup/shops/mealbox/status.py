"""Where an order stands, in the words of its customers."""

from collections.abc import Mapping, Sequence
from typing import Literal

from orderup.model.operation import OperationStatus
from orderup.shops.mealbox.plan import FETCH_PRODUCT, FETCH_USER, SAVE

OrderStatus = Literal["pending", "completed", "failed", "cancelled"]
# The one table from orderup's words to the shop's; docs/shops/mealbox.md shows it.
STATUS_WORDS: Mapping[str, OrderStatus] = {
    OperationStatus.PENDING: "pending",
    OperationStatus.RUNNING: "pending",
    OperationStatus.PAUSED: "pending",
    OperationStatus.COMPLETED: "completed",
    OperationStatus.ERRORED: "failed",
    OperationStatus.CANCELLED: "cancelled",
}


def statuses_of(word: OrderStatus | None) -> Sequence[str]:
    """The words that operations have for it."""
    return [str(status) for status, said in STATUS_WORDS.items() if said == word]


def plain_reason(reason: str | None) -> str | None:
    """Without the name of the task that failed, which is none of a customer's words."""
    task, _, sentence = (reason or "").partition(": ")
    return sentence if task in (FETCH_USER, FETCH_PRODUCT, SAVE) else reason
