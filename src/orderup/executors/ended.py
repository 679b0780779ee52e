"""Which claims events have ended, whoever ended them: a cancel, a rescuer, a deadline."""

from collections.abc import Mapping, Sequence

from orderup.db.database import Claimed
from orderup.model.event import Event

# After these nobody holds the task that they tell of; after a cancelled operation's, any task of it.
ENDS = frozenset({"operation.cancelled", "task.cancelled", "task.errored", "task.lost"})
# By operation and position, None for all of its tasks: the `n` of the last event that ended claims.
Ended = Mapping[tuple[int, int | None], int]


def ended_by(events: Sequence[Event]) -> Ended:
    return {(event.operation_id, event.task): event.n for event in events if event.type in ENDS}


def has_ended(claimed: Claimed, ended: Ended) -> bool:
    """Whether such an event came after this claim: those before it have ended an earlier attempt."""
    operation_id, version = claimed.operation_id, claimed.version
    return ended.get((operation_id, claimed.task.position), 0) > version or ended.get((operation_id, None), 0) > version
