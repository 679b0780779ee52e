from collections.abc import Callable
from datetime import timedelta

import pytest

from orderup.cli.assembly import open_house
from orderup.errors import Misconfigured
from orderup.model.plan import Plan, PlannedTask
from orderup.settings import Settings
from orderup.shop import Shop

IN_MEMORY = Settings(database_url="sqlite://")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ({"cron": "0 25 * * *"}, "Schedule bread: '0 25 .* Bad hour"),
        ({"cron": "0 3 * * *", "zone": "Mars/Olympus"}, "Schedule bread: .*Mars/Olympus"),
        ({"every": timedelta(milliseconds=10)}, "Schedule bread: every=.* is less than a second"),
    ],
)
async def test_a_schedule_that_makes_no_sense_stops_the_start_with_its_name(
    times: dict[str, object], message: str
) -> None:
    shop = Shop("bakery")
    shop.remote("bake")
    shop.schedule("bread", **times)(lambda: Plan([PlannedTask("bake")]))
    with pytest.raises(Misconfigured, match=message):
        async with open_house(IN_MEMORY, [shop], back_url="http://localhost:8001"):
            pytest.fail("it started")


def unknown() -> Plan:
    return Plan([PlannedTask("fry")])


def circle() -> Plan:
    return Plan([PlannedTask("knead", after=["bake"]), PlannedTask("bake", after=["knead"])])


@pytest.mark.parametrize(
    ("plan", "message"), [(unknown, "fry, which shop bakery does not have"), (circle, "in a circle: knead, bake")]
)
@pytest.mark.parametrize("what", ["the schedule bread", "the example"])
async def test_a_plan_that_could_not_be_placed_stops_the_start_with_its_name(
    what: str, plan: Callable[[], Plan], message: str
) -> None:
    shop = Shop("bakery")
    shop.remote("bake")
    if what == "the example":
        shop.example = plan
    else:
        shop.schedule("bread", every=timedelta(hours=1))(plan)
    with pytest.raises(Misconfigured, match=f"Shop bakery: the plan of {what} cannot be placed. .*{message}"):
        async with open_house(IN_MEMORY, [shop], back_url="http://localhost:8001"):
            pytest.fail("it started")


@pytest.mark.parametrize("package", ["nowhere.at_all", "tests.model"])
async def test_templates_that_are_not_there_stop_the_start_with_the_shops_name(package: str) -> None:
    shop = Shop("bakery", templates=package)
    with pytest.raises(Misconfigured, match=f'The shop bakery has templates="{package}", but there is no package'):
        async with open_house(IN_MEMORY, [shop], back_url="http://localhost:8001"):
            pytest.fail("it started")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"database_url": "sqlite://", "redis_url": "redis://127.0.0.1:1"}, "in the memory of one process"),
        ({"database_url": "sqlite:////nowhere/orderup.db"}, "Celery has no broker. Set CELERY_BROKER_URL"),
    ],
)
async def test_celery_without_what_its_workers_need_stops_the_server_at_its_start(
    values: dict[str, str], message: str
) -> None:
    with pytest.raises(Misconfigured, match=message):
        async with open_house(Settings.model_validate(values), [], back_url="http://localhost", executor="celery"):
            pytest.fail("it started")
