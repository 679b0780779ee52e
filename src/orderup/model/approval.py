"""How an RFA is decided: approved, declined, or expired because nobody did."""

from msgspec.structs import replace

from orderup.errors import AlreadyDecided, NotFound
from orderup.model.ids import show_id
from orderup.model.operation import Draft, OperationStatus
from orderup.model.rfa import Rfa, RfaStatus
from orderup.model.steer import end_as_cancelled
from orderup.model.times import as_datetime
from orderup.model.work import release


def approve(draft: Draft, *, by: str, notes: str | None, now: int) -> None:
    """Release the operation's first tasks. Raises NotFound if nobody was asked, AlreadyDecided."""
    rfa = _open_rfa(draft)
    draft.set(rfa=replace(rfa, status=RfaStatus.APPROVED, decided_at=now, decided_by=by, notes=notes))
    draft.status = OperationStatus.RUNNING
    for task in draft.base.tasks:
        if not task.blocked_by:
            release(draft, task.position, now=now)
    draft.tell("rfa.approved", at=now, status=RfaStatus.APPROVED)


def decline(draft: Draft, *, by: str, notes: str | None, now: int) -> None:
    """Cancel the operation. The customer reads `notes`. Raises as `approve`."""
    rfa = _open_rfa(draft)
    draft.set(rfa=replace(rfa, status=RfaStatus.DECLINED, decided_at=now, decided_by=by, notes=notes))
    end_as_cancelled(draft, reason="declined", now=now)
    usual = (draft.base.words or {}).get("rfa.declined", "Declined")
    draft.tell("rfa.declined", at=now, status=RfaStatus.DECLINED, message=f"{usual}: {notes}" if notes else usual)


def expire(draft: Draft, *, now: int) -> None:
    """Nobody answered in time. Raises as `approve`."""
    rfa = _open_rfa(draft)
    draft.set(rfa=replace(rfa, status=RfaStatus.EXPIRED, decided_at=now))
    end_as_cancelled(draft, reason="expired", now=now)
    draft.tell("rfa.expired", at=now, status=RfaStatus.EXPIRED)


def _open_rfa(draft: Draft) -> Rfa:
    rfa = draft.rfa
    id = show_id(draft.base.id)
    if rfa is None:
        raise NotFound("RFA", id)
    if rfa.status is not RfaStatus.PENDING:
        at = as_datetime(rfa.decided_at) if rfa.decided_at else None
        raise AlreadyDecided(id, status=rfa.status, decided_by=rfa.decided_by, decided_at=at)
    return rfa
