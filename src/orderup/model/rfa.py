"""A request for approval: asked of staff before an operation's first task is released. It has its operation's id."""

from enum import StrEnum

import msgspec


class RfaStatus(StrEnum):
    PENDING = "pending"
    APPROVED = "approved"
    DECLINED = "declined"
    EXPIRED = "expired"  # nobody answered in time
    CANCELLED = "cancelled"  # its operation was cancelled before anybody answered


class Rfa(msgspec.Struct, frozen=True, gc=False):
    """`notes` of a declined RFA are read by the customer. Times are microseconds since the epoch."""

    status: RfaStatus
    question: str
    asked_at: int
    expires_at: int
    decided_at: int | None = None
    decided_by: str | None = None
    notes: str | None = None
