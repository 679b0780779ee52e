"""I5: an operation's `n` has no gap and no repeat, its version is the last one, and `seq` rises with it."""

from collections.abc import Iterator
from itertools import pairwise

from tests.invariants.evidence import Evidence


def misnumbered(evidence: Evidence) -> Iterator[str]:
    """Each violation of I5."""
    yield from evidence.database.orphans
    for operation in evidence.database.operations.values():
        numbers = [event.n for event in operation.events]
        if numbers != list(range(1, len(numbers) + 1)):
            yield f"operation {operation.id} has the events {numbers}"
        if operation.row.version != len(numbers):
            yield f"operation {operation.id} is at version {operation.row.version}, it has {len(numbers)} events"
        for earlier, later in pairwise(operation.events):
            if later.seq <= earlier.seq:
                yield f"operation {operation.id}: event {later.n} stands before event {earlier.n} in the log"
