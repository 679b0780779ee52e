"""What an event of a shop leads to: another order of the shop, placed once for each event, whatever dies on the way.

A shop says what follows upon which events; a publisher's target (publish.py) places it. An event that comes again finds
the key under which its follow-up was placed, so that at least once becomes exactly once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orderup.db.database import Key, ReadConnection
from orderup.db.read import find_key
from orderup.engine.desk import Replayed
from orderup.engine.engine import Engine
from orderup.engine.place import place_order, scoped_key
from orderup.errors import InvalidPlan, Refused, TaskFailed, Unavailable, UpstreamRefused
from orderup.model.delivery import FollowUp, TargetAway, message_id
from orderup.model.event import Event
from orderup.model.plan import Plan

MOST_TOGETHER = 50


class FollowUps:
    """Of one shop. `plans`: by type of event, what follows upon it."""

    most_in_flight, most_together = MOST_TOGETHER, MOST_TOGETHER

    def __init__(self, engine: Engine, shop: str, plans: Mapping[str, FollowUp]) -> None:
        self.engine, self.shop, self.plans = engine, shop, plans
        self.name, self.place = f"follow_up_{shop}", f"orders of {shop} that follow upon others"

    def wants(self, event: Event) -> bool:
        return event.shop == self.shop and event.type in self.plans

    async def reach(self) -> None:
        """It is here."""

    def prepare(self, connection: Any, events: Sequence[Event]) -> Sequence[tuple[Event, Plan] | None]:
        plans = [self.plans[event.type].plan(connection, event) for event in events]
        return [None if plan is None else (event, plan) for event, plan in zip(events, plans, strict=True)]

    async def send(self, prepared: Sequence[tuple[Event, Plan]]) -> Sequence[TaskFailed | None]:
        return [await self._place(event, plan) for event, plan in prepared]

    async def _place(self, event: Event, plan: Plan) -> TaskFailed | None:
        try:
            await place_order(
                self.engine,
                self.shop,
                plan,
                key=Key(key=_key_of(event), fingerprint=event.type, made_at=self.engine.now()),
                source="follow-up",
            )
        except Replayed:
            return None
        except Unavailable as error:
            raise TargetAway(str(error)) from error
        except (Refused, InvalidPlan) as error:
            return UpstreamRefused(str(error))
        return None


def followed_by(connection: ReadConnection, event: Event) -> int | None:
    """The operation that followed upon this event, as long as its key is kept."""
    taken = find_key(connection, _key_of(event))
    return None if taken is None else taken.operation_id


def _key_of(event: Event) -> str:
    return scoped_key("follow-up", event.shop, key=message_id(event))
