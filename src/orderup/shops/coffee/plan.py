"""From an order to its plan: one coffee, to be brewed."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from msgspec.structs import replace

from orderup import Plan, PlannedTask, Shop
from orderup.db.database import ReadConnection
from orderup.model.ids import show_id
from orderup.model.kind import Kind
from orderup.model.task import queue_name
from orderup.settings import Settings

# So many wait before clients would take turns, if they never shall.
NEVER = 1_000_000_000

shop = Shop(
    "coffee", title="Coffee bar", about="Americanos, brewed by baristas in the order in which they are asked for."
)
shop.remote("brew", says="Your coffee is being brewed", lease=timedelta(seconds=180), turns_after=20, counts_late=True)
BREW = "brew"
QUEUE = queue_name(shop.name, BREW)

WORDS = {
    "operation.placed": "You are in line",
    "task.lost": "This takes a little longer: another barista takes over",
    "task.handed_back": "This takes a little longer: another barista takes over",
    "operation.cancelled": "Your order has left the line",
    "operation.errored": "Something went wrong with your coffee; our staff looks into it",
    "operation.completed": "Your coffee is ready",
}
# It ends by no clock, which somebody may set forward by a day: who leaves takes his order with him.
COFFEE = Plan([PlannedTask(BREW, within=timedelta(days=366))], words=WORDS)


def adjust(settings: Settings, kinds: Mapping[str, Kind]) -> Mapping[str, Kind]:
    """As the owner has set it."""
    brew = replace(
        kinds[BREW],
        lease=timedelta(seconds=settings.coffee_lease_seconds),
        turns_after=settings.client_turns_after or NEVER,
    )
    return {**kinds, BREW: brew}


def facts(_connection: ReadConnection, operation_ids: Sequence[int]) -> Mapping[int, Mapping[str, str]]:
    """What staff reads of orders: all are the same coffee, and each has the number that is called."""
    return {id: {"Coffee": "Americano", "Number": called(show_id(id))} for id in operation_ids}


def called(shown: str) -> str:
    """The number that is called, of an order's id as it is shown."""
    return shown[-4:].upper()


shop.adjust, shop.facts = adjust, facts
shop.example = lambda: COFFEE
