"""I4: a final state never changes. The log is judged by replay.py; here is what those saw who looked on."""

from collections.abc import Iterator

from tests.invariants.evidence import Evidence, by
from tests.invariants.records import Observed

FINAL = ("completed", "cancelled")


def changed(evidence: Evidence) -> Iterator[str]:
    """Each violation of I4 that observers show."""
    for id, seen in by(evidence.of(Observed), "id").items():
        for observer, statuses in by(seen, "by").items():
            last = ""
            for each in statuses:
                if last in FINAL and each.status != last:
                    yield f"operation {id}: {observer or 'somebody'} saw it {last}, then {each.status}"
                last = each.status
        operation = evidence.database.operations.get(id)
        for status in {each.status for each in seen if each.status in FINAL}:
            if operation is not None and operation.row.status != status:
                yield f"operation {id} was seen {status}, now it is {operation.row.status}"
    for operation in evidence.database.operations.values():
        rfa = operation.rfa
        if (
            rfa is not None
            and rfa.status in ("declined", "expired", "cancelled")
            and operation.row.status != "cancelled"
        ):
            yield f"operation {operation.id} is {operation.row.status}, its RFA {rfa.status}"
