"""I10: a schedule's due time fires once."""

import re
from collections import Counter
from collections.abc import Iterator

from tests.invariants.evidence import Evidence

SOURCE = re.compile(r"schedule:(?P<name>[^@]+)@(?P<due>\S+)")


def fired_again(evidence: Evidence) -> Iterator[str]:
    """Each violation of I10."""
    sources = (SOURCE.match(operation.row.source) for operation in evidence.database.operations.values())
    for due, times in Counter(found.group("name", "due") for found in sources if found).items():
        if times > 1:
            yield f"schedule {due[0]} fired {times} times for {due[1]}"
    for schedule in evidence.database.schedules:
        if schedule.last_due_at is not None and schedule.next_due_at <= schedule.last_due_at:
            yield f"schedule {schedule.name} is to fire for {schedule.next_due_at} again"
