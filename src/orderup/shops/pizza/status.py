"""Where an order stands, in the customer's words."""

from collections.abc import Mapping

from orderup.model.operation import Operation, OperationStatus
from orderup.model.rfa import RfaStatus

# The one table from orderup's words to the pizzeria's; docs/shops/pizza.md shows it.
STATUS_WORDS: Mapping[str, str] = {
    "pending": "waiting_for_approval",
    "running": "approved",  # no worker has begun yet
    "make_dough": "making_dough",
    "add_toppings": "adding_toppings",
    "bake_pizza": "baking",
    "deliver_pizza": "delivering",
    "completed": "completed",
    "declined": "declined",
    "expired": "expired",
    "cancelled": "cancelled",
    "errored": "failed",
}


def status_of(operation: Operation) -> str:
    """The word for it. Under way, the step that was begun last gives it, also between two steps and on hold."""
    status, rfa = operation.status, operation.rfa
    if (
        status is OperationStatus.CANCELLED
        and rfa is not None
        and rfa.status in (RfaStatus.DECLINED, RfaStatus.EXPIRED)
    ):
        return STATUS_WORDS[rfa.status]
    if status in (OperationStatus.RUNNING, OperationStatus.PAUSED):
        begun = [task.name for task in operation.tasks if task.attempt]
        return STATUS_WORDS[begun[-1] if begun else "running"]
    return STATUS_WORDS[status]
