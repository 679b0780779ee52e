"""I11: memory, queues and sockets stay within their caps."""

from collections.abc import Iterator

from tests.invariants.evidence import Evidence, by
from tests.invariants.records import Sampled


def burst(evidence: Evidence) -> Iterator[str]:
    """Each violation of I11: one for a measure of a process, however long it lasted."""
    for name, samples in by(evidence.of(Sampled), "of").items():
        for measure, several in by(samples, "measure").items():
            worst = max(several, key=lambda each: each.value - each.cap)
            if worst.value > worst.cap:
                yield f"{name}: {measure} was {worst.value:g}, the cap is {worst.cap:g}"
