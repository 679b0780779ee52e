"""Ids: a 63-bit integer in the database, thirteen letters and digits outside.

40 bits of milliseconds since 2025 come first (enough until 2059), so that rows made together lie together on disk; 23
bits follow that are random for the first id of a millisecond and count on from there, so that one process never makes
an id twice. Two processes may, rarely: the insert then fails on the primary key and is done again with another id.
An id is a name, not a secret: what protects an order is its key. Alphabet: Crockford's base 32, lower case.
"""

import os
import random
from datetime import UTC, datetime
from functools import lru_cache
from typing import NewType

from orderup.errors import NotFound

OperationId = NewType("OperationId", int)
TaskId = NewType("TaskId", str)

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 13
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_SHIFTS = range(50, -1, -10)
_VALUE = {letter: value for value, letter in enumerate(ALPHABET)}
_EPOCH_MS = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000)
_RANDOM_BITS = 23


class _IdMaker:
    """Remembers the last id, so that the next one is above it."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        self.last = 0
        # seeded by the system once: to ask it each time takes longer than all else that is done to place an order
        self.random = random.Random()  # noqa: S311  an id keeps no secret

    def next(self, now: int) -> OperationId:
        milliseconds = max(now // 1000 - _EPOCH_MS, 0)
        # the first of a millisecond leaves the upper half of the range for those that count on from it
        fresh = (milliseconds << _RANDOM_BITS) | self.random.getrandbits(_RANDOM_BITS - 1)
        self.last = fresh if milliseconds > self.last >> _RANDOM_BITS else self.last + 1
        return OperationId(self.last)


_maker = _IdMaker()
os.register_at_fork(after_in_child=_maker.begin_anew)


def new_operation_id(now: int) -> OperationId:
    """A fresh id, above all those made before in this process. `now`: microseconds since the epoch."""
    return _maker.next(now)


def first_operation_id(moment: int) -> int:
    """Ids made before this moment are below it, and those made since are not: where rows are in the order of ids, they
    are in the order of time. `moment`: microseconds since the epoch."""
    return max(moment // 1000 - _EPOCH_MS, 0) << _RANDOM_BITS


@lru_cache(maxsize=4096)
def show_id(operation_id: int) -> str:
    """The id as the outside world sees it: 13 characters."""
    pairs = [_PAIRS[operation_id >> shift & 1023] for shift in _SHIFTS]
    return ALPHABET[operation_id >> 60] + "".join(pairs)


def read_id(text: str, *, what: str = "operation") -> OperationId:
    """The other way round. Raises NotFound for anything that cannot be an id: nobody has it."""
    if len(text) != LENGTH or not all(letter in _VALUE for letter in text):
        raise NotFound(what, _short(text))
    number = 0
    for letter in text:
        number = number << 5 | _VALUE[letter]
    if number >= 1 << 63:
        raise NotFound(what, _short(text))
    return OperationId(number)


def show_task_id(operation_id: int, position: int) -> TaskId:
    """A task's id: its operation's, a hyphen, its position in the plan."""
    return TaskId(f"{show_id(operation_id)}-{position}")


def read_task_id(text: str) -> tuple[OperationId, int]:
    """Raises NotFound for anything that cannot be a task's id."""
    operation, hyphen, position = text.partition("-")
    if not hyphen or not position.isascii() or not position.isdigit() or len(position) > 7:
        raise NotFound("task", _short(text))
    if len(position) > 1 and position[0] == "0":
        raise NotFound("task", _short(text))
    return read_id(operation, what="task"), int(position)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")
