"""What becomes of orders, in plain words: no database, no versions, nothing worked out ahead and nothing kept twice.

Written from the description of the states (docs/states.md) and the glossary, without the code that it judges. Whatever
can be told from something else is told from it: a task is held up as long as one that it comes after is not completed,
an order has ended when none of its tasks can move. Every verb refuses before it changes anything.

Points in time are microseconds since the epoch, lengths of time microseconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orderup.errors import AlreadyDecided, Conflict, NotFound, Refused, StaleToken

SECOND = 1_000_000
# What the plain kitchen's kinds of tasks are to have.
MOST_FAILURES = 3
FIRST_WAIT, LONGEST_WAIT = 10 * SECOND, 15 * SECOND
LEASE_SECONDS = 4
MOST_SECONDS_A_LOOK = 2.0
ONE_AT_A_TIME = "oven"

MOVING = ("pending", "running", "waiting", "paused")
FINAL = ("completed", "errored", "cancelled")


class No(Exception):
    """The verb does not fit the state. `error`: how the engine is to say so."""

    def __init__(self, error: type[Refused]) -> None:
        self.error = error
        super().__init__(error.__name__)


@dataclass
class PlainTask:
    """token, worker: of whoever holds it. hangs_on_executor: under the one lease of an executor. answered: the last
    write that a worker was allowed, once there is nothing newer to say of the task."""

    name: str
    kind: str
    after: frozenset[int]
    priority: int
    within: int
    status: str = "blocked"
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    token: str | None = None
    worker: str | None = None
    hangs_on_executor: bool = False
    beats: int = 0
    ready_at: int | None = None
    deadline: int | None = None
    result: str | None = None
    memo: str | None = None
    answered: str | None = None

    def let_go(self, status: str) -> None:
        self.status, self.token, self.worker = status, None, None


@dataclass
class PlainOrder:
    """asked: how its RFA stands, None if there is none. told: its events, each with the task it is about."""

    tasks: list[PlainTask]
    asked: str | None
    expires_at: int
    status: str = "pending"
    told: list[tuple[str, int | None]] = field(default_factory=list)

    def tell(self, type: str, at: int | None = None) -> None:
        self.told.append((type, at))

    # placing and deciding

    def place(self, now: int) -> None:
        if self.asked is None:
            self._begin(now)
        self.tell("operation.placed")

    def approve(self, now: int) -> None:
        self._decide("approved")
        self._begin(now)

    def decline(self) -> None:
        self._decide("declined")
        self._cancel_all()

    def expire(self) -> None:
        self._decide("expired")
        self._cancel_all()

    def _decide(self, answer: str) -> None:
        if self.asked is None:
            raise No(NotFound)
        if self.asked != "pending":
            raise No(AlreadyDecided)
        self.asked = answer
        self.tell(f"rfa.{answer}")

    def _begin(self, now: int) -> None:
        self.status = "running"
        self._release_what_is_free(now)

    def _release_what_is_free(self, now: int) -> None:
        for task in self.tasks:
            if task.status == "blocked" and self.is_free(task):
                self._release(task, now)

    def is_free(self, task: PlainTask) -> bool:
        return all(self.tasks[earlier].status == "completed" for earlier in task.after)

    def _release(self, task: PlainTask, now: int) -> None:
        task.status = "paused" if self.status == "paused" else "pending"
        task.ready_at, task.deadline = now, now + task.within

    def _cancel_all(self) -> None:
        for task in self.tasks:
            if task.status not in FINAL:
                task.let_go("cancelled")
        self.status = "cancelled"

    # workers

    def held_by(self, at: int, token: str) -> PlainTask:
        task = self.tasks[at]
        if task.status != "running" or task.token != token:
            raise No(StaleToken)
        return task

    def start(self, at: int, *, token: str, worker: str, hangs_on_executor: bool) -> None:
        task = self.tasks[at]
        task.status, task.token, task.worker = "running", token, worker
        task.hangs_on_executor = hangs_on_executor
        task.attempt += 1
        self.tell("task.started", at)

    def complete(self, at: int, token: str, *, result: str, now: int, answer: str | None) -> None:
        if answer is not None and self.tasks[at].answered == answer:
            return
        task = self.held_by(at, token)
        task.let_go("completed")
        task.result, task.answered = result, answer
        self.tell("task.completed", at)
        self._release_what_is_free(now)
        self._end_if_nothing_moves()

    def fail(self, at: int, token: str, *, is_final: bool, retry_after: int, now: int, answer: str) -> None:
        if self.tasks[at].answered == answer:
            return
        task = self.held_by(at, token)
        task.failures += 1
        wait = max(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (task.failures - 1)), retry_after)
        if is_final or task.failures == MOST_FAILURES or self._is_too_late(task, now + wait):
            self._end_as_errored(at, answer)
            return
        self._hold_until(task, now + wait, answer)
        self.tell("task.retrying", at)

    def wait(self, at: int, token: str, *, length: int, memo: str | None, now: int, answer: str) -> None:
        if self.tasks[at].answered == answer:
            return
        task = self.held_by(at, token)
        if self._is_too_late(task, now + length):
            self._end_as_errored(at, answer)
            return
        task.memo = memo or task.memo
        self._hold_until(task, now + length, answer)
        self.tell("task.waiting", at)

    def _is_too_late(self, task: PlainTask, moment: int) -> bool:
        return task.deadline is not None and moment >= task.deadline

    def _hold_until(self, task: PlainTask, moment: int, answer: str) -> None:
        task.let_go("paused" if self.status == "paused" else "waiting")
        task.ready_at, task.answered, task.losses = moment, answer, 0

    def _end_as_errored(self, at: int, answer: str | None) -> None:
        task = self.tasks[at]
        task.let_go("errored")
        task.answered = answer
        self.tell("task.errored", at)
        self._end_if_nothing_moves()

    def _end_if_nothing_moves(self) -> None:
        statuses = {task.status for task in self.tasks}
        if statuses & set(MOVING):
            return
        if statuses == {"completed"}:
            self.status = "completed"
        else:
            self.status = "errored" if "errored" in statuses else "cancelled"
        self.tell(f"operation.{self.status}")

    def remember(self, at: int, token: str, *, memo: str) -> None:
        task = self.held_by(at, token)
        if task.memo != memo:
            task.memo = memo
            self.tell("task.remembered", at)

    def heartbeat(self, at: int, token: str) -> None:
        if self.held_by(at, token).hangs_on_executor:
            raise No(StaleToken)  # it has no lease of its own
        self.tasks[at].beats += 1

    def hand_back(self, at: int, token: str) -> None:
        task = self.held_by(at, token)
        task.attempt -= 1
        task.losses = 0
        task.let_go("paused" if self.status == "paused" else "pending")
        self.tell("task.handed_back", at)

    def lose(self, at: int) -> None:
        """That 25 losses in a row end a task as errored is out of reach of a run of so few steps."""
        task = self.tasks[at]
        task.losses += 1
        task.let_go("paused" if self.status == "paused" else "pending")
        self.tell("task.lost", at)

    # people

    def cancel(self) -> None:
        if self.status in FINAL:
            raise No(Conflict)
        if self.asked == "pending":
            self.asked = "cancelled"
        self._cancel_all()
        self.tell("operation.cancelled")

    def pause(self) -> None:
        if self.status != "running":
            raise No(Conflict)
        self.status = "paused"
        for task in self.tasks:
            if task.status in ("pending", "waiting"):
                task.status = "paused"
        self.tell("operation.paused")

    def resume(self, now: int) -> None:
        if self.status != "paused":
            raise No(Conflict)
        self.status = "running"
        for task in self.tasks:
            if task.status == "paused":
                task.status = "waiting" if task.ready_at is not None and task.ready_at > now else "pending"
                task.deadline = now + task.within
        self.tell("operation.resumed")

    def retry(self, now: int) -> None:
        if self.status != "errored":
            raise No(Conflict)
        self.status = "running"
        for task in self.tasks:
            if task.status == "errored":
                self._do_again(task, now)
        self.tell("operation.retried")

    def rerun(self, at: int, now: int) -> None:
        task = self.tasks[at]
        later = [each for each in self.tasks if at in each.after]
        if self.status in ("completed", "cancelled") or task.status not in ("completed", "errored"):
            raise No(Conflict)
        if any(each.attempt for each in later):
            raise No(Conflict)
        if self.status == "errored":
            self.status = "running"
        task.memo = None
        self._do_again(task, now)
        for each in later:
            if each.status != "cancelled":
                each.status = "blocked"
        self.tell("task.rerun", at)

    def _do_again(self, task: PlainTask, now: int) -> None:
        task.failures, task.losses, task.answered, task.result = 0, 0, None, None
        self._release(task, now)

    def cancel_task(self, at: int) -> None:
        if self.status == "pending" or self.status in FINAL or self.tasks[at].status in FINAL:
            raise No(Conflict)
        for each in sorted(self._all_that_come_after({at})):
            if self.tasks[each].status not in FINAL:
                self.tasks[each].let_go("cancelled")
                self.tell("task.cancelled", each)
        self._end_if_nothing_moves()

    def _all_that_come_after(self, some: set[int]) -> set[int]:
        more = some | {at for at, task in enumerate(self.tasks) if task.after & some}
        return more if more == some else self._all_that_come_after(more)

    # time

    def look_at_the_clock(self, now: int) -> None:
        """Waits end; what is past its time is errored, but not under an executor's lease: executors see to it."""
        for at, task in enumerate(self.tasks):
            if task.status == "waiting" and task.ready_at is not None and task.ready_at <= now:
                task.status = "pending"
            is_watched = task.status in ("pending", "waiting") or (
                task.status == "running" and not task.hangs_on_executor
            )
            if is_watched and self._is_too_late(task, now):
                self._end_as_errored(at, None)
        if self.asked == "pending" and self.expires_at <= now:
            self.expire()


@dataclass(frozen=True)
class PlainClaim:
    """What a worker was given: nothing that happens to the task later changes it."""

    order: int
    at: int
    token: str


@dataclass
class PlainKitchen:
    """All orders, and the executors by name: how often each has beaten, as long as it is taken for alive."""

    orders: list[PlainOrder] = field(default_factory=list)
    executors: dict[str, int] = field(default_factory=dict)
    beats: int = 0

    def beat(self, executor: str) -> None:
        self.beats += 1
        self.executors[executor] = self.beats

    def held(self) -> list[PlainClaim]:
        """Every claim that lives."""
        return [
            PlainClaim(number, at, task.token)
            for number, order in enumerate(self.orders)
            for at, task in enumerate(order.tasks)
            if task.token is not None
        ]

    def task(self, claim: PlainClaim) -> PlainTask:
        return self.orders[claim.order].tasks[claim.at]

    def next_in_line(self, kinds: Iterable[str], most: int) -> list[tuple[int, int]]:
        """Priority and time of those who are to be claimed next: of equals it may be any."""
        tasks = [task for order in self.orders for task in order.tasks if task.kind in kinds]
        is_oven_free = not any(task.kind == ONE_AT_A_TIME and task.status == "running" for task in tasks)
        line: list[tuple[int, int]] = []
        for task in sorted((task for task in tasks if task.status == "pending"), key=place_in_line):
            if len(line) == most:
                break
            if task.kind == ONE_AT_A_TIME:
                if not is_oven_free:
                    continue
                is_oven_free = False
            line.append(place_in_line(task))
        return line

    def leases(self) -> dict[str, int]:
        """Of every lease that lives, by its token or its executor's name, what a renewal makes larger."""
        own = {claim.token: self.task(claim).beats for claim in self.held() if not self.task(claim).hangs_on_executor}
        return own | self.executors

    def lose(self, ended: Sequence[str]) -> int:
        """The leases of these, tokens or executors, ran out; how many tasks were lost with them."""
        lost = 0
        for claim in self.held():
            task = self.task(claim)
            if (task.worker if task.hangs_on_executor else claim.token) in ended:
                self.orders[claim.order].lose(claim.at)
                lost += 1
        for name in ended:
            self.executors.pop(name, None)
        return lost


def place_in_line(task: PlainTask) -> tuple[int, int]:
    assert task.ready_at is not None
    return task.priority, task.ready_at


class PlainRescuer:
    """Ends leases that it has itself seen unrenewed for their whole length. Between two looks, no more than two seconds
    count as looked on."""

    def __init__(self) -> None:
        self.looked_at: float | None = None
        self.still: dict[str, tuple[int, float]] = {}

    def look(self, leases: dict[str, int], now: float) -> list[str]:
        """The leases that are over."""
        passed = 0.0 if self.looked_at is None else min(now - self.looked_at, MOST_SECONDS_A_LOOK)
        self.looked_at = now
        before, self.still = self.still, {}
        ended = []
        for name, beats in leases.items():
            seen_beats, seconds = before.get(name, (None, 0.0))
            still = seconds + passed if seen_beats == beats else 0.0
            if still >= LEASE_SECONDS:
                ended.append(name)
            else:
                self.still[name] = beats, still
        return ended
