"""What a demo of the pizzeria came to: asked of the server when all is over, and compared with what everybody saw."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from orderup.cli.simulation.pizza import STATUSES, Order
from orderup.cli.simulation.record import count_completions, fetch_operations
from orderup.cli.simulation.stage import Stage
from orderup.model.quantile import MEDIAN, NINETY_PERCENT, quantile

MOST_SHOWN = 10


class Summary(msgspec.Struct):
    """seconds: from the first order to the end of the last. waiting: of each order that was begun, seconds from the
    request to its first worker; making: from there to the door. repeats: messages that customers got twice, and tasks
    that were completed twice. wrong: what did not go as it should."""

    orders: int
    seconds: float
    outcomes: Counter[str]
    waiting: list[float]
    making: list[float]
    tasks_by_worker: Counter[str]
    reconnects: int
    repeats: int
    wrong: list[str]

    @property
    def is_good(self) -> bool:
        return not self.wrong and not self.repeats

    def text(self) -> str:
        ended = ", ".join(f"{self.outcomes[status]} {status}" for status in STATUSES if self.outcomes[status])
        workers = ", ".join(f"{name} {count}" for name, count in sorted(self.tasks_by_worker.items()))
        lines = [
            "",
            f"{self.orders} orders in {self.seconds:.1f} s, {self.orders / max(self.seconds, 0.001):.1f} a second",
            f"  ended        {ended or 'none'}",
            f"  waiting      {_spread(self.waiting)}, from the request to the first worker",
            f"  making       {_spread(self.making)}, from there to the door",
            f"  tasks        {sum(self.tasks_by_worker.values())} completed: {workers or 'none'}",
            f"  connections  {self.reconnects} were cut, and taken up again where they broke off",
            f"  duplicates   {self.repeats}",
            "",
        ]
        if self.is_good:
            lines.append("Every order ended as it should.")
        else:
            more = [f"  and {len(self.wrong) - MOST_SHOWN} more"] if len(self.wrong) > MOST_SHOWN else []
            lines += ["Not every order ended as it should:", *(f"  {each}" for each in self.wrong[:MOST_SHOWN]), *more]
        return "\n".join(lines)


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "p50 –, p90 –"
    ordered = sorted(seconds)
    return f"p50 {quantile(ordered, MEDIAN):.2f} s, p90 {quantile(ordered, NINETY_PERCENT):.2f} s"


async def sum_up(stage: Stage, orders: Sequence[Order], *, wanted: int, seconds: float) -> Summary:
    """Look at every order from both sides."""
    summary = Summary(
        orders=wanted,
        seconds=seconds,
        outcomes=Counter(order.told or "unended" for order in orders),
        waiting=[],
        making=[],
        tasks_by_worker=Counter(),
        reconnects=sum(max(0, order.following.breaks) for order in orders),
        repeats=sum(order.following.repeats for order in orders),
        wrong=[_complaint(order) for order in orders if not order.ended_well],
    )
    if len(orders) < wanted:
        summary.wrong.append(f"{wanted - len(orders)} orders were never placed")
    placed = [order for order in orders if order.id]
    operations = await fetch_operations(stage, [order.id for order in placed])
    for order, operation in zip(placed, operations, strict=True):
        _add(summary, order, operation)
    completions = await count_completions(stage, operations)
    summary.repeats += sum(count - 1 for count in completions.values())
    return summary


def _complaint(order: Order) -> str:
    how = order.problem or (
        f"should be {order.fate}, is {order.told or 'still ' + order.status}, {order.following.repeats} repeats"
    )
    return f"order {order.number} ({order.id or 'never placed'}): {how}"


def _add(summary: Summary, order: Order, operation: dict[str, Any]) -> None:
    tasks = operation["tasks"]
    done = [task for task in tasks if task["status"] == "completed"]
    summary.tasks_by_worker.update(task["worker"] for task in done)
    if order.told == "completed" and len(done) < len(tasks):
        summary.wrong.append(f"order {order.number} ({order.id}): completed, but {len(done)} of its tasks are")
    if operation["started_at"] is None:
        return
    started = _moment(operation["started_at"])
    summary.waiting.append((started - _moment(operation["placed_at"])).total_seconds())
    if operation["status"] == "completed":
        summary.making.append((_moment(operation["finished_at"]) - started).total_seconds())


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
