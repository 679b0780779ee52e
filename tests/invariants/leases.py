"""I6: at most one live lease a task; a stale holder's writes are refused. The log's order is judged by replay.py."""

from collections.abc import Iterator

from tests.invariants.evidence import Evidence, by
from tests.invariants.records import Answered, Started


def shared(evidence: Evidence) -> Iterator[str]:
    """Each violation of I6 that ledgers show."""
    started = evidence.of(Started)
    for token, claims in by(started, "token").items():
        if len({(each.worker, each.task) for each in claims}) > 1:
            holders = sorted({f"{each.worker} ({each.task})" for each in claims})
            yield f"token {token[:8]}… was given to {', '.join(holders)}"
    for task_id, claims in by(started, "task").items():
        found = evidence.task(task_id)
        if found is None or found[0].told("task.handed_back", found[1].position):
            continue  # the next claim counts the same attempt again
        for attempt, several in by(claims, "attempt").items():
            if len({each.token for each in several}) > 1:
                yield f"task {task_id}: attempt {attempt} was given out under several tokens"
    yield from _stale_writes(evidence)


def _stale_writes(evidence: Evidence) -> Iterator[str]:
    for answered in evidence.of(Answered):
        found = evidence.task(answered.task)
        if answered.verb != "complete" or answered.status != 200 or found is None:
            continue
        operation, task = found
        if not operation.told("task.rerun", task.position) and answered.attempt != task.attempt:
            yield (
                f"task {answered.task}: the result of attempt {answered.attempt} was accepted from {answered.worker}, "
                f"though it was at attempt {task.attempt}"
            )
