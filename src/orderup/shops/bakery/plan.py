"""From orders, days and people to plans. Pure.

An order's own operation is what its customer waits for: a cake is baked by a person, then he is told. Whatever is
automated around it is an operation of its own, so that a third party that is down holds up nobody's cake.
"""

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from orderup import Plan, PlannedTask, Retry, Shop

shop = Shop("bakery", title="Bakery", about="Cakes by recipe, and everything around them automated.")

BAKE, TELL, NOTE_TOLD = "bake", "tell_customer", "note_told"
COLLECT, CREATE_ISSUE, NOTE_ISSUE = "collect_orders", "create_issue", "note_issue"
JUDGE_ISSUE, JUDGE_CLOSED = "judge_issue", "judge_closed_issues"
OPEN_DOCUMENT, RECORD, NOTE_DOCUMENT, UPDATE_ISSUE = "open_document", "record", "note_document", "update_issue"
SYNC_ACCESS, NOTE_ACCESS = "sync_access", "note_access"
# What a third party makes wait may wait for long: somebody has to renew a token, or to pay a bill.
PATIENT = timedelta(days=30)
# An order lasts until it is baked.
LONGEST = timedelta(days=365)
# Some four days of tries, half an hour apart at last; resting does not count as one.
STUBBORN = Retry(attempts=200, first=timedelta(seconds=2), longest=timedelta(minutes=30))

# A person bakes it: at a station, or wherever, and says so.
shop.remote(BAKE, says="Baking your cake", within=LONGEST, lease=timedelta(hours=8), counts_late=True)

WORDS = {
    "operation.placed": "We have your order",
    "operation.completed": "Your cake is ready",
    "operation.errored": "Something is the matter with your order; our staff looks into it",
    "operation.cancelled": "Your order was cancelled",
    "operation.paused": "Your order is on hold for a moment",
    "operation.resumed": "Your order goes on",
    "operation.retried": "We are trying again",
}


def plan_order(to_bake: Mapping[str, Any]) -> Plan:
    """`to_bake`: what the baker reads."""
    return Plan.chain(PlannedTask(BAKE, to_bake), PlannedTask(TELL), PlannedTask(NOTE_TOLD), words=WORDS)


def plan_issue(number: int | None = None) -> Plan:
    """For one order, or for all that no issue holds yet."""
    return Plan.chain(PlannedTask(COLLECT, {"order": number}), PlannedTask(CREATE_ISSUE), PlannedTask(NOTE_ISSUE))


def plan_judgement(issue: str) -> Plan:
    """`issue`: its key in Jira, of which we were told that something about it has changed."""
    return Plan([PlannedTask(JUDGE_ISSUE, {"issue": issue})])


def plan_cancellation(number: int, *, is_in_issue: bool) -> Plan:
    about = {"order": number}
    tasks = [
        PlannedTask(OPEN_DOCUMENT, about),
        PlannedTask(RECORD, about, after=[OPEN_DOCUMENT]),
        PlannedTask(NOTE_DOCUMENT, about, after=[RECORD]),
    ]
    return Plan([*tasks, PlannedTask(UPDATE_ISSUE, about)] if is_in_issue else tasks)


def plan_access() -> Plan:
    """Bring what GitHub lets somebody do in line with what he is here. Whom: his row names the operation."""
    return Plan.chain(PlannedTask(SYNC_ACCESS), PlannedTask(NOTE_ACCESS))


shop.example = partial(plan_order, {"cake": "2 × chocolate cake for 4"})
