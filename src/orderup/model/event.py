"""A fact, appended in the transaction that made it true."""

from enum import IntEnum

import msgspec


class Audience(IntEnum):
    """Who may see an event; each sees what those before it see, too."""

    CUSTOMER = 0
    STAFF = 1
    INTERNAL = 2


# Every type there is, who sees it, and what a customer reads unless the plan has words of its own.
EVENT_TYPES: dict[str, tuple[Audience, str]] = {
    "operation.placed": (Audience.CUSTOMER, "Request received"),
    "rfa.approved": (Audience.CUSTOMER, "Approved"),
    "rfa.declined": (Audience.CUSTOMER, "Declined"),
    "rfa.expired": (Audience.CUSTOMER, "Nobody answered the request in time"),
    "task.started": (Audience.CUSTOMER, ""),
    "task.waiting": (Audience.STAFF, ""),
    "task.remembered": (Audience.INTERNAL, ""),
    "task.retrying": (Audience.CUSTOMER, "This takes longer than planned; it is being tried again"),
    "task.lost": (Audience.CUSTOMER, "This takes longer than planned; somebody else takes over"),
    "task.handed_back": (Audience.STAFF, ""),
    "task.completed": (Audience.STAFF, ""),
    "task.errored": (Audience.STAFF, ""),
    "task.cancelled": (Audience.STAFF, ""),
    "task.rerun": (Audience.STAFF, ""),
    "operation.completed": (Audience.CUSTOMER, "Done"),
    "operation.errored": (Audience.CUSTOMER, "Something went wrong; our staff looks into it"),
    "operation.cancelled": (Audience.CUSTOMER, "Cancelled"),
    "operation.paused": (Audience.CUSTOMER, "On hold for a moment"),
    "operation.resumed": (Audience.CUSTOMER, "Going on"),
    "operation.retried": (Audience.CUSTOMER, "Being tried again"),
}


# The same, told without looking anything up: who sees it as a plain number.
TOLD = {type: (int(audience), words) for type, (audience, words) in EVENT_TYPES.items()}
FOR_CUSTOMERS, FOR_STAFF = int(Audience.CUSTOMER), int(Audience.STAFF)


class Event(msgspec.Struct, frozen=True, gc=False):
    """`n` counts an operation's events from 1 without a gap. `seq`, its number in the log, is 0 until it is stored.

    task: the position of the task it tells of, and `task_name` its name. status: of that task, or of the operation.
    at: microseconds since the epoch. message: for a customer if `audience` is CUSTOMER. It holds ids, states and words,
    never a person's name or address.
    """

    operation_id: int
    n: int
    at: int
    type: str
    shop: str
    task: int | None
    task_name: str | None
    status: str
    message: str
    audience: int
    seq: int = 0
