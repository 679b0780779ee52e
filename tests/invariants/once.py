"""I2: an effect with one key happens once at the receiver."""

from collections import Counter
from collections.abc import Iterator

from tests.invariants.evidence import Evidence, by
from tests.invariants.records import Accepted, Answered, Asked, Effect


def doubled(evidence: Evidence) -> Iterator[str]:
    """Each violation of I2."""
    for key, accepted in by([each for each in evidence.of(Accepted) if each.key], "key").items():
        if len(ids := sorted({each.id for each in accepted})) > 1:
            yield f"key {key} placed several operations: {', '.join(ids)}"
    yield from _orders_nobody_asked_for(evidence)
    for (service, key), times in Counter((each.service, each.key) for each in evidence.of(Effect)).items():
        if times > 1:
            yield f"{service} did what key {key} stands for {times} times"
    yield from _completions(evidence)


def _orders_nobody_asked_for(evidence: Evidence) -> Iterator[str]:
    """One whose answer was lost is known by nobody: it shows as one too many."""
    asked = {each.key for each in evidence.of(Asked)}
    requested = [each for each in evidence.database.operations.values() if each.row.source == "request"]
    if asked and len(requested) > len(asked):
        yield f"{len(asked)} keys were asked with, {len(requested)} operations placed"


def _completions(evidence: Evidence) -> Iterator[str]:
    accepted = [each for each in evidence.of(Answered) if each.verb == "complete" and each.status == 200]
    for task_id, answers in by(accepted, "task").items():
        found = evidence.task(task_id)
        reruns = found[0].told("task.rerun", found[1].position) if found else 0
        if len({each.token for each in answers}) > 1 + reruns:
            workers = ", ".join(sorted({each.worker for each in answers}))
            yield f"task {task_id}: results of several claims were accepted, from {workers}"
