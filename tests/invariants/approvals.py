"""I9: an approval is decided at most once, by someone allowed. The log's own order is judged by replay.py."""

from collections.abc import Iterator

from tests.invariants.evidence import Evidence, OperationRows, by
from tests.invariants.records import Decided

ALLOWED = ("staff", "admin")
TOLD = {"rfa.approved": "approved", "rfa.declined": "declined", "rfa.expired": "expired"}


def decided_wrongly(evidence: Evidence) -> Iterator[str]:
    """Each violation of I9 that rows and clients show."""
    accepted = [each for each in evidence.of(Decided) if each.status == 200 and each.decision != "cancelled"]
    for id, decisions in by(accepted, "id").items():
        if len({(each.decision, each.by) for each in decisions}) > 1:
            yield f"RFA {id}: several decisions were accepted"
        for each in decisions:
            if each.role not in ALLOWED:
                yield f"RFA {id} was {each.decision} by a {each.role}"
    for operation in evidence.database.operations.values():
        yield from _rows(operation, evidence.staff)


def _rows(operation: OperationRows, staff: frozenset[str]) -> Iterator[str]:
    told = [TOLD[event.type] for event in operation.events if event.type in TOLD]
    rfa = operation.rfa
    if rfa is None:
        if told:
            yield f"operation {operation.id} has no RFA, yet it was {told}"
        return
    if len(told) > 1:
        yield f"RFA {operation.id} was decided {len(told)} times: {told}"
    if rfa.status in TOLD.values() and told[-1:] != [rfa.status]:
        yield f"RFA {operation.id} is {rfa.status}, the log says {told}"
    if rfa.status in ("pending", "cancelled") and told:
        yield f"RFA {operation.id} is {rfa.status}, though it was {told}"
    if rfa.status in ("approved", "declined") and (not rfa.decided_by or (staff and rfa.decided_by not in staff)):
        yield f"RFA {operation.id} was {rfa.status} by {rfa.decided_by}, who may not"
