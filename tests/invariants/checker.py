"""The twelve invariants, each with what finds its violations. The bar is none, always."""

from collections.abc import Callable, Iterator, Mapping

from tests.invariants.accepted import lost
from tests.invariants.approvals import decided_wrongly
from tests.invariants.caps import burst
from tests.invariants.due_times import fired_again
from tests.invariants.evidence import Evidence
from tests.invariants.final import changed
from tests.invariants.followers import missed
from tests.invariants.inputs import too_early
from tests.invariants.leaks import leaked
from tests.invariants.leases import shared
from tests.invariants.numbering import misnumbered
from tests.invariants.once import doubled
from tests.invariants.rates import exceeded
from tests.invariants.replay import replay

SAYS: Mapping[int, str] = {
    1: "an accepted request is never lost",
    2: "an effect with one key happens once at the receiver",
    3: "no task starts before its inputs are done",
    4: "a final state never changes",
    5: "an operation's n has no gap and no repeat",
    6: "at most one live lease a task; a stale holder's writes are refused",
    7: "no rate window is exceeded",
    8: "a follower that reconnects sees every event once, in order",
    9: "an approval is decided at most once, by someone allowed",
    10: "a schedule's due time fires once",
    11: "memory, queues and sockets stay within their caps",
    12: "no secret leaves the settings",
}
FINDERS: Mapping[int, Callable[[Evidence], Iterator[str]]] = {
    1: lost,
    2: doubled,
    3: too_early,
    4: changed,
    5: misnumbered,
    6: shared,
    7: exceeded,
    8: missed,
    9: decided_wrongly,
    10: fired_again,
    11: burst,
    12: leaked,
}
MOST_SHOWN = 5

Violations = Mapping[int, list[str]]


def check(evidence: Evidence) -> Violations:
    """For each invariant its violations, in words."""
    found = {number: list(finder(evidence)) for number, finder in FINDERS.items()}
    for operation in evidence.database.operations.values():
        for misfit in replay(operation):
            found[misfit.invariant].append(misfit.text)
    return found


def report(found: Violations) -> str:
    """Twelve lines with a count each; below one that is not 0 its first violations."""
    lines = []
    for number, violations in found.items():
        lines.append(f"I{number:<3} {len(violations):>6}  {SAYS[number]}")
        lines += [f"{'':14}{each}" for each in violations[:MOST_SHOWN]]
    return "\n".join(lines)


def assert_none(found: Violations) -> None:
    """For tests: fails with the whole report unless every count is 0."""
    assert not any(found.values()), f"invariants are violated\n{report(found)}"
