"""Every error of orderup, as one tree. Branches follow what the catcher can do.

OrderupError
├── Refused                  the caller changes something
│   ├── Invalid              the input is wrong; `field` says which
│   ├── NotFound             there is no such thing, or it is not the caller's
│   ├── Unauthenticated      no token, or one that is not valid (any more)
│   ├── Forbidden            the caller's role does not allow it
│   ├── TooLarge             more than the stated limit
│   ├── TooMany              more at once, or in this time, than one client may ask for; `retry_after`
│   ├── Conflict             it does not fit the present state
│   │   ├── StaleToken       the claim has ended: drop the result
│   │   ├── AlreadyDecided   somebody decided this RFA before
│   │   └── IdTaken          another operation has this id
│   ├── KeyMisused           an Idempotency-Key came with another request
│   └── Gone                 it was there, and is past retention
├── TaskFailed               a handler failed; `final` says that trying again will not help
│   ├── UpstreamFailed       a third party failed, trying again may help; `retry_after`
│   │   └── OutcomeUnknown   it may have taken effect all the same: ask before it is sent again
│   └── UpstreamRefused      a third party said no, trying again will not help
├── Resting                  a third party is left alone now: the task waits, which is no failure; `seconds`
├── Unavailable              the database is away; trying again will help; `retry_after`
│   └── StorageFull          no room to write
└── Misconfigured            the owner's turn
    └── InvalidPlan          a shop built a plan that cannot be carried out

The engine knows nothing of HTTP: `web/problems.py` holds the one table from these classes to a status.
"""

from datetime import datetime, timedelta


class OrderupError(Exception):
    """The root: catch it to catch whatever orderup raises by itself."""


class Refused(OrderupError):
    """The request cannot be done as it stands; the caller changes something."""


class Invalid(Refused):
    """The input is wrong. `field` is a dotted path such as `body.tier`, or None when the whole is."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(message)


class NotFound(Refused):
    """There is no such thing, or it belongs to somebody else: the two are not told apart."""

    def __init__(self, what: str, identity: object) -> None:
        self.what, self.identity = what, identity
        super().__init__(f"There is no {what} {identity}.")


class Unauthenticated(Refused):
    """No token, or one that is wrong, expired or revoked."""


class Forbidden(Refused):
    """The caller is known, but may not do this."""


class TooLarge(Refused):
    """Something exceeds its stated limit."""


class TooMany(Refused):
    """One client asks for more at once, or in this time, than he may. Nothing was changed."""

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class Conflict(Refused):
    """The request does not fit the present state. Nothing was changed."""


class StaleToken(Conflict):
    """A write came under a claim that has ended. Nothing was changed."""

    def __init__(self, task_id: str, *, reason: str) -> None:
        self.task_id = task_id
        super().__init__(
            f"Task {task_id}: {reason}. Nothing was changed. Drop the result: the task may be in other hands. "
            "A worker that needs longer sends heartbeats at least twice a lease."
        )


class AlreadyDecided(Conflict):
    """A second decision on one RFA. `decided_by` made the first one."""

    def __init__(self, rfa_id: str, *, status: str, decided_by: str | None, decided_at: datetime | None) -> None:
        self.rfa_id, self.status, self.decided_by, self.decided_at = rfa_id, status, decided_by, decided_at
        by = f" by {decided_by}" if decided_by else ""
        at = f" at {decided_at:%Y-%m-%d %H:%M:%SZ}" if decided_at else ""
        super().__init__(f"RFA {rfa_id} was {status}{by}{at}. Nothing was changed.")


class IdTaken(Conflict):
    """An operation of this id is there already. Nothing was changed; another id will do."""


class KeyMisused(Refused):
    """An Idempotency-Key was sent again with another method, path or body."""

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was used before for another request. Send the same request again to get its "
            "answer, or use a new key for a new request."
        )


class Gone(Refused):
    """What was asked for is past retention. `oldest` is the first `seq` that can still be asked for."""

    def __init__(self, message: str, *, oldest: int) -> None:
        self.oldest = oldest
        super().__init__(message)


class TaskFailed(OrderupError):
    """A handler raises this to fail its attempt. `final`: do not retry. `retry_after`: not earlier than that.
    `was_sent` False: no connection was made, so that the attempt does not count against the queue's rate limit."""

    final = False

    def __init__(
        self,
        message: str,
        *,
        final: bool | None = None,
        retry_after: timedelta | None = None,
        pause_queue: bool = False,
        was_sent: bool = True,
    ) -> None:
        if final is not None:
            self.final = final
        self.retry_after, self.pause_queue, self.was_sent = retry_after, pause_queue, was_sent
        super().__init__(message)


class UpstreamFailed(TaskFailed):
    """A third party failed, hung or asked to come back later. With `retry_after` its whole queue pauses, and no attempt
    has failed."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None, was_sent: bool = True) -> None:
        super().__init__(message, retry_after=retry_after, pause_queue=retry_after is not None, was_sent=was_sent)


class OutcomeUnknown(UpstreamFailed):
    """Something was sent that must not take effect twice, and nobody knows what came of it: look first, then repeat."""


class UpstreamRefused(TaskFailed):
    """A third party understood and said no."""

    final = True


class Resting(OrderupError):
    """A third party is not asked now: it is down, has asked for a rest, or as many are asking it as may. A handler lets
    this through: its task waits for so many seconds, with the memo it has, and no attempt has failed. `is_down`: nobody
    may ask it until then. `was_sent`: a call has just shown that; else none was made, and of a kind with an allowance
    it does not count."""

    def __init__(self, seconds: float, *, is_down: bool = False, was_sent: bool = False) -> None:
        self.seconds, self.is_down, self.was_sent = seconds, is_down, was_sent
        super().__init__(f"not asked for {seconds:.1f} s")


class Unavailable(OrderupError):
    """The database does not answer now. Nothing is lost; the same request may be sent again."""

    def __init__(self, message: str, *, retry_after: timedelta = timedelta(seconds=2)) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StorageFull(Unavailable):
    """The database cannot be written: the disk is full or the file is read-only."""


class Misconfigured(OrderupError):
    """A setting, a shop or the installation is wrong; the message says what to change."""


class InvalidPlan(Misconfigured):
    """A plan has a cycle, an unknown dependency or kind, or a name used twice. No caller can mend that."""
