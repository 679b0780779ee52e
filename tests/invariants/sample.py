"""A run in which all is well, with something of everything: what the planted bugs are planted into."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from orderup.db.database import Claimed, Key
from orderup.db.sqlite import SqliteDatabase
from orderup.engine import steer
from orderup.engine.claim import claim_now
from orderup.engine.complete import complete_task
from orderup.engine.decide import approve_rfa, decline_rfa
from orderup.engine.due import end_waits
from orderup.engine.engine import Engine
from orderup.engine.fail import fail_task
from orderup.engine.hand_back import hand_back_task
from orderup.engine.lease import beat_executor
from orderup.engine.place import place_order
from orderup.engine.rescue import Rescuer
from orderup.engine.schedule import fire_schedules, register_schedules
from orderup.engine.wait import let_task_wait, remember
from orderup.model.event import Audience
from orderup.model.ids import show_id, show_task_id
from orderup.model.kind import Kind, read_rate
from orderup.model.operation import Operation
from orderup.model.placing import encode
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.retry import Retry
from orderup.model.schedule import Schedule
from orderup.web.views import view_event
from tests.invariants.evidence import from_json
from tests.invariants.records import (
    Accepted,
    Answered,
    AnyRecord,
    Asked,
    Decided,
    Effect,
    Finished,
    Follows,
    Ledger,
    Observed,
    Received,
    Sampled,
    Started,
)

SECOND = 1_000_000
START = 1_800_000_000 * SECOND
KINDS = {
    "knead": Kind("knead", says="Kneading", retry=Retry(attempts=2, first=timedelta(0), longest=timedelta(0))),
    "bake": Kind("bake", says="Baking", is_remote=True, lease=timedelta(seconds=2)),
    "box": Kind("box", rate=read_rate("2/minute"), concurrency=1),
}
CHAIN = Plan.chain(PlannedTask("knead"), PlannedTask("bake"), approval=Approval("Bake it?"))
DIAMOND = Plan(
    [
        PlannedTask("knead"),
        PlannedTask("left", kind="bake", after=["knead"]),
        PlannedTask("right", kind="bake", after=["knead"]),
        PlannedTask("box", after=["left", "right"]),
    ]
)


@dataclass(frozen=True, slots=True)
class Sample:
    """`operations`: ids as the API shows them, by the name of their part in the story."""

    database: Path
    records: Path
    operations: dict[str, str]


class Time:
    """A millisecond later each time that somebody looks."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> int:
        self.now += 1_000
        return self.now


class Story:
    """Tells the run: verbs of the engine, each written down as workers and clients would."""

    def __init__(self, engine: Engine, ledger: Ledger, time: Time) -> None:
        self.engine, self.ledger, self.time = engine, ledger, time
        self.operations: dict[str, str] = {}

    def write(self, record: AnyRecord) -> None:
        self.ledger.write(record)

    async def place(self, name: str, plan: Plan) -> Operation:
        self.write(Asked(key=name))
        operation = await place_order(self.engine, "bakery", plan, key=Key(name, "same", self.time()))
        self.operations[name] = show_id(operation.id)
        self.write(Accepted(id=show_id(operation.id), key=name))
        return operation

    async def decide(self, operation: Operation, decision: str) -> None:
        verb = approve_rfa if decision == "approved" else decline_rfa
        await verb(self.engine, operation.id, by="Ann")
        self.write(Decided(id=show_id(operation.id), decision=decision, by="Ann", status=200))

    async def claim(self, kind: str, *, worker: str = "Bo", own_lease: bool = False) -> Claimed:
        claims = await claim_now(self.engine, [f"bakery/{kind}"], worker=worker, most=1, own_lease=own_lease)
        [claimed] = claims.claimed
        task = claimed.task
        inputs = {name: from_json(result) for name, result in claimed.inputs.items()}
        self.write(
            Started(
                worker=worker,
                task=show_task_id(claimed.operation_id, task.position),
                attempt=task.attempt,
                token=str(task.token),
                inputs=inputs,
            )
        )
        return claimed

    async def complete(self, claimed: Claimed) -> None:
        task = claimed.task
        result = {"of": task.name, "attempt": task.attempt}
        place = (claimed.operation_id, task.position)
        await complete_task(self.engine, *place, token=str(task.token), result=encode(result))
        id = show_task_id(*place)
        self.write(Effect(service="oven", key=f"{id} {task.attempt}"))
        self.write(
            Answered(
                worker=str(task.worker),
                task=id,
                attempt=task.attempt,
                token=str(task.token),
                verb="complete",
                result=result,
                status=200,
            )
        )

    async def do(self, *kinds: str) -> None:
        for kind in kinds:
            await self.complete(await self.claim(kind))


async def tell_sample(folder: Path) -> Sample:
    """Make the run in this folder."""
    path, records = folder / "orderup.db", folder / "records.jsonl"
    ledger = Ledger(records)
    database = SqliteDatabase(path)
    await database.open()
    time = Time()
    story = Story(Engine(database, {"bakery": KINDS}, now=time), ledger, time)
    await _tell(story)
    await _follow(story)
    story.write(Sampled(of="server", measure="rss_bytes", value=80e6, cap=200e6))
    await database.close()
    ledger.close()
    return Sample(path, records, story.operations)


async def _tell(story: Story) -> None:
    engine = story.engine
    simple = await story.place("approved", CHAIN)
    await story.decide(simple, "approved")
    await story.do("knead", "bake")
    story.write(Observed(id=show_id(simple.id), status="completed", by="Cy"))
    await story.decide(await story.place("declined", CHAIN), "declined")
    await _tell_of_faults(story)
    await _tell_of_people(story)
    await beat_executor(engine, "here", kind="local", lease=timedelta(seconds=30))
    await story.place("running", Plan(CHAIN.tasks))
    await story.claim("knead", worker="here", own_lease=True)
    await story.place("pending", CHAIN)
    known = {"bakery/daily": Schedule("daily", lambda: Plan([PlannedTask("bake")]), every=timedelta(days=1))}
    await register_schedules(engine, known)
    story.time.now += 86_400 * SECOND
    await fire_schedules(engine, known)
    await story.do("bake")


async def _tell_of_faults(story: Story) -> None:
    """A lease that runs out, a failure, a wait, a claim handed back, in a diamond of tasks."""
    engine = story.engine
    operation = await story.place("diamond", DIAMOND)
    first = await story.claim("knead")
    await fail_task(engine, operation.id, 0, token=str(first.task.token), error="The bowl broke.")
    await end_waits(engine)
    await story.do("knead")
    await story.claim("bake", worker="Dead")
    seconds = 0.0
    rescuer = Rescuer(engine, monotonic=lambda: seconds)
    while not await rescuer.look():
        seconds += 1
    waiting = await story.claim("bake")
    token = str(waiting.task.token)
    await remember(engine, operation.id, waiting.task.position, token=token, memo='"half"')
    await let_task_wait(engine, operation.id, waiting.task.position, token=token, seconds=1, memo=None)
    story.time.now += 2 * SECOND
    await end_waits(engine)
    await story.do("bake", "bake")
    given_back = await story.claim("box")
    await hand_back_task(engine, operation.id, 3, token=str(given_back.task.token), was_used=False)
    await story.do("box")


async def _tell_of_people(story: Story) -> None:
    """Cancelled, paused, resumed, retried, rerun."""
    engine = story.engine
    cancelled = await story.place("cancelled", CHAIN)
    await story.decide(cancelled, "approved")
    await story.claim("knead")
    await steer.cancel_operation(engine, cancelled.id, reason="too late")
    story.write(Decided(id=show_id(cancelled.id), decision="cancelled", status=200))
    again = await story.place("again", Plan.chain(PlannedTask("knead"), PlannedTask("bake")))
    await story.do("knead")
    await steer.rerun_task(engine, again.id, 0)
    await steer.pause_operation(engine, again.id)
    await steer.resume_operation(engine, again.id)
    for _ in range(2):
        claimed = await story.claim("knead")
        await fail_task(engine, again.id, 0, token=str(claimed.task.token), error="The bowl broke.")
        await end_waits(engine)
    await steer.retry_operation(engine, again.id)
    await story.do("knead", "bake")


async def _follow(story: Story) -> None:
    """One who follows an order, and one who follows everything, as if reconnecting now and then."""
    log: list[dict[str, Any]] = []
    reader = story.engine.database.log(0)
    while events := await reader.read(50):
        log += [{**view_event(event), "audience": event.audience} for event in events]
    id = story.operations["diamond"]
    story.write(Follows(follower="customer", operation_id=id))
    for event in log:
        if event["operation_id"] == id and event["audience"] == Audience.CUSTOMER:
            story.write(Received(follower="customer", event=event))
    story.write(Finished(follower="customer"))
    story.write(Follows(follower="staff", audience=Audience.INTERNAL, after=3))
    for event in log[3:]:
        story.write(Received(follower="staff", event=event))
