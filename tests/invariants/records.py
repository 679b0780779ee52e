"""What workers and clients of a test write down: a JSON object a line, appended before and after each thing they do.

A line is written at once, so a process that is killed leaves whole lines; the last one of a file may still be torn.
Points in time (`at`) are microseconds since the epoch, ids are as the API shows them.
"""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec


class Record(msgspec.Struct, frozen=True, tag_field="what", kw_only=True):
    """`what` is the name of the class in lower case."""

    at: int = 0


# Workers' ledgers


class Started(Record, frozen=True, tag="started", kw_only=True):
    """A worker was given a task. inputs: what the tasks it depends on gave, by their names."""

    worker: str
    task: str
    attempt: int
    token: str
    inputs: dict[str, Any] = {}


class Answered(Record, frozen=True, tag="answered", kw_only=True):
    """What a worker's write was answered. verb: complete, fail, wait … status: of HTTP, or None if no answer came."""

    worker: str
    task: str
    attempt: int
    token: str
    verb: str
    result: Any = None
    status: int | None = None


class Effect(Record, frozen=True, tag="effect", kw_only=True):
    """Something was done at a receiver that told things apart by this key."""

    service: str
    key: str


# Clients' logs


class Asked(Record, frozen=True, tag="asked", kw_only=True):
    """A client is about to place an order under this Idempotency-Key, perhaps several times."""

    key: str


class Accepted(Record, frozen=True, tag="accepted", kw_only=True):
    """An order was answered 2xx."""

    id: str
    key: str | None = None


class Decided(Record, frozen=True, tag="decided", kw_only=True):
    """What a person's decision was answered. decision: approved, declined, cancelled. by: whose it was."""

    id: str
    decision: str
    status: int
    by: str | None = None
    role: str = "staff"


class Observed(Record, frozen=True, tag="observed", kw_only=True):
    """An operation was read, and had this status. Those of one observer are in order."""

    id: str
    status: str
    by: str = ""


class Follows(Record, frozen=True, tag="follows", kw_only=True):
    """A follower begins: of one operation, a shop, or all. audience: 0 customer, 1 staff, 2 internal."""

    follower: str
    operation_id: str | None = None
    shop: str | None = None
    audience: int = 0
    after: int = 0


class Received(Record, frozen=True, tag="received", kw_only=True):
    """A follower got an event, as it came over the wire."""

    follower: str
    event: dict[str, Any]


class Finished(Record, frozen=True, tag="finished", kw_only=True):
    """A follower says that it has seen everything there was until the end of the run."""

    follower: str


class Sampled(Record, frozen=True, tag="sampled", kw_only=True):
    """A measure of a process, such as its memory or its sockets, and what it must not exceed."""

    of: str
    measure: str
    value: float
    cap: float


AnyRecord = (
    Started | Answered | Effect | Asked | Accepted | Decided | Observed | Follows | Received | Finished | Sampled
)
_decoder = msgspec.json.Decoder(AnyRecord)
_encoder = msgspec.json.Encoder()


class Ledger:
    """Appends records to a file that several processes may share."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

    def write(self, record: AnyRecord) -> None:
        """`at` 0 is taken for now."""
        if not record.at:
            record = msgspec.structs.replace(record, at=time.time_ns() // 1000)
        os.write(self._file, _encoder.encode(record) + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read_records(paths: Iterable[Path]) -> list[AnyRecord]:
    """All records of these files. Raises ValueError for a line that is none, unless it is a file's torn last one."""
    records: list[AnyRecord] = []
    for path in paths:
        for number, line in enumerate(lines := path.read_bytes().split(b"\n"), start=1):
            if not line or (number == len(lines) and not _is_whole(line)):
                continue
            try:
                records.append(_decoder.decode(line))
            except msgspec.MsgspecError as error:
                raise ValueError(f"{path}, line {number}: {error}") from error
    return records


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
