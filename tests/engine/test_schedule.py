"""Schedules: orders that are placed because their time has come. Each due time fires once."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from sqlalchemy import RowMapping

from orderup.db.tables import operations, schedules
from orderup.engine.schedule import (
    MOST_COUNTED,
    check_schedule,
    due_times,
    fire_schedules,
    latest_due,
    pause_schedule,
    register_schedules,
    run_schedule,
)
from orderup.engine.steer import cancel_operation
from orderup.errors import Conflict, Misconfigured, NotFound
from orderup.model.operation import OperationStatus
from orderup.model.plan import Approval, Plan, PlannedTask
from orderup.model.schedule import Schedule
from orderup.model.times import as_micros
from tests.engine.conftest import Doors
from tests.engine.kitchen import DOUGH, HOUR, MINUTE, NOON, SHOP, Kitchen, Time

NAME = f"{SHOP}/clean"
DAY = timedelta(days=1)
HOURLY = {NAME: Schedule("clean", lambda: DOUGH, every=HOUR)}
AT_SIX = {NAME: Schedule("clean", lambda: DOUGH, cron="0 6 * * *")}


def utc(text: str) -> int:
    """Of `2026-03-29 01:00`, in UTC, microseconds since the epoch."""
    return as_micros(datetime.fromisoformat(text).replace(tzinfo=UTC))


def cron(line: str, zone: str, *, after: str, count: int) -> list[str]:
    """The next due times of a cron line, in UTC, as `03-29 01:00`."""
    schedule = Schedule("clean", lambda: DOUGH, cron=line, zone=zone)
    times = islice(due_times(schedule, after=utc(after)), count)
    return [datetime.fromtimestamp(due / 1e6, UTC).strftime("%m-%d %H:%M") for due in times]


async def the_row(kitchen: Kitchen) -> RowMapping:
    [row] = await kitchen.rows(schedules)
    return row


async def placed(kitchen: Kitchen) -> list[str]:
    """What placed the orders there are, in order."""
    rows = await kitchen.rows(operations)
    return [row["source"] for row in sorted(rows, key=lambda row: (row["placed_at"], row["id"]))]


async def fire(kitchen: Kitchen, known: Mapping[str, Schedule] = HOURLY) -> int:
    """Do what is due; whatever is placed is done at once."""
    fired = await fire_schedules(kitchen.engine, known)
    for claimed in await kitchen.claim("dough", most=10):
        await kitchen.complete(claimed)
    return fired


# When it is due.


def test_every_hour_is_every_full_hour_since_the_epoch() -> None:
    schedule = Schedule("clean", lambda: DOUGH, every=HOUR)
    first, second = islice(due_times(schedule, after=NOON + 1), 2)
    assert (first, second) == (NOON + 3_600_000_000, NOON + 7_200_000_000)
    assert next(due_times(schedule, after=NOON)) == NOON + 3_600_000_000, "strictly after"


def test_a_cron_line_is_due_by_the_clock_of_its_zone() -> None:
    assert cron("0 6 * * *", "UTC", after="2026-07-01 00:00", count=2) == ["07-01 06:00", "07-02 06:00"]
    assert cron("0 6 * * *", "Europe/Paris", after="2026-07-01 00:00", count=1) == ["07-01 04:00"]
    assert cron("0 6 * * *", "Europe/Paris", after="2026-12-01 00:00", count=1) == ["12-01 05:00"]


# Paris: on 29 March 2026 it is 3:00 right after 1:59 (1:00 UTC); on 25 October it is 2:00 again after 2:59 (1:00 UTC).
# New York: on 8 March 2026 it is 3:00 right after 1:59 (7:00 UTC); on 1 November 1:00 again after 1:59 (6:00 UTC).


@pytest.mark.parametrize(
    ("line", "zone", "after", "wanted"),
    [
        ("30 2 * * *", "Europe/Paris", "2026-03-28 00:00", ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0 2 * * *", "Europe/Paris", "2026-03-28 12:00", ["03-29 01:00", "03-30 00:00"]),
        ("30 2 * * *", "America/New_York", "2026-03-07 00:00", ["03-07 07:30", "03-08 07:00", "03-09 06:30"]),
    ],
)
def test_a_time_that_is_missing_on_a_day_is_due_when_the_gap_ends(
    line: str, zone: str, after: str, wanted: list[str]
) -> None:
    assert cron(line, zone, after=after, count=len(wanted)) == wanted


@pytest.mark.parametrize(
    ("line", "zone", "after", "wanted"),
    [
        ("30 2 * * *", "Europe/Paris", "2026-10-24 12:00", ["10-25 00:30", "10-26 01:30"]),
        ("0 2 * * *", "Europe/Paris", "2026-10-24 12:00", ["10-25 00:00", "10-26 01:00"]),
        ("30 1 * * *", "America/New_York", "2026-10-31 12:00", ["11-01 05:30", "11-02 06:30"]),
    ],
)
def test_a_time_that_comes_twice_on_a_day_is_due_the_first_time_only(
    line: str, zone: str, after: str, wanted: list[str]
) -> None:
    assert cron(line, zone, after=after, count=len(wanted)) == wanted


@pytest.mark.parametrize("after", ["2026-10-25 00:30", "2026-10-25 00:45", "2026-10-25 01:10", "2026-10-25 01:45"])
def test_asked_between_the_two_it_is_not_due_a_second_time(after: str) -> None:
    assert cron("30 2 * * *", "Europe/Paris", after=after, count=1) == ["10-26 01:30"]


def test_what_is_due_every_half_hour_is_due_every_half_hour_through_the_change_of_clocks() -> None:
    spring = cron("*/30 * * * *", "Europe/Paris", after="2026-03-29 00:00", count=4)
    assert spring == ["03-29 00:30", "03-29 01:00", "03-29 01:30", "03-29 02:00"]
    autumn = cron("*/30 * * * *", "Europe/Paris", after="2026-10-25 00:00", count=4)
    assert autumn == ["10-25 00:30", "10-25 01:00", "10-25 01:30", "10-25 02:00"]


def test_a_leap_day_is_due_in_leap_years() -> None:
    schedule = Schedule("clean", lambda: DOUGH, cron="0 0 29 2 *")
    years = [datetime.fromtimestamp(due / 1e6, UTC).year for due in islice(due_times(schedule, after=NOON), 3)]
    assert years == [2028, 2032, 2036]


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York", "UTC", "Australia/Lord_Howe"])
def test_over_a_thousand_days_each_day_has_one_due_time(zone: str) -> None:
    for line in ("30 1 * * *", "0 2 * * *", "30 2 * * *", "0 6 * * *"):
        schedule = Schedule("clean", lambda: DOUGH, cron=line, zone=zone)
        times = list(islice(due_times(schedule, after=utc("2024-01-01 00:00")), 1_000))
        gaps = {later - earlier for earlier, later in pairwise(times)}
        assert min(gaps) >= as_micros(timedelta(hours=23))
        assert max(gaps) <= as_micros(timedelta(hours=25))


@pytest.mark.parametrize(
    ("line", "zone"), [("every day", "UTC"), ("0 25 * * *", "UTC"), ("0 0 30 2 *", "UTC"), ("0 6 * * *", "Mars/Base")]
)
def test_a_line_or_zone_that_makes_no_sense_is_the_owners_turn(line: str, zone: str) -> None:
    with pytest.raises(Misconfigured, match="Schedule clean"):
        check_schedule(Schedule("clean", lambda: DOUGH, cron=line, zone=zone))


def test_less_than_a_second_is_too_often() -> None:
    with pytest.raises(Misconfigured, match="less than a second"):
        check_schedule(Schedule("clean", lambda: DOUGH, every=timedelta(milliseconds=999)))


# Firing.


async def test_when_it_is_due_an_order_is_placed_that_says_what_placed_it(kitchen: Kitchen, time: Time) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    assert await fire(kitchen) == 0
    time.advance(HOUR - timedelta(microseconds=1))
    assert await fire(kitchen) == 0
    time.advance(timedelta(microseconds=1))
    assert await fire(kitchen) == 1
    assert await placed(kitchen) == ["schedule:diner/clean@2026-03-01T13:00:00.000Z"]
    row = await the_row(kitchen)
    assert (row["last_due_at"], row["next_due_at"]) == (NOON + 3_600_000_000, NOON + 7_200_000_000)
    assert await fire(kitchen) == 0


async def test_a_schedule_fires_day_after_day(kitchen: Kitchen, time: Time) -> None:
    await register_schedules(kitchen.engine, AT_SIX)
    for _ in range(10):
        time.advance(DAY / 2)
        await fire(kitchen, AT_SIX)
        time.advance(DAY / 2)
        await fire(kitchen, AT_SIX)
    assert await placed(kitchen) == [f"schedule:diner/clean@2026-03-{day:02}T06:00:00.000Z" for day in range(2, 12)]


async def test_two_clocks_that_fire_at_once_place_one_order(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time) for _ in range(4)]
    for kitchen in kitchens:
        await register_schedules(kitchen.engine, HOURLY)
    for hours in range(1, 6):
        time.advance(HOUR)
        fired = await asyncio.gather(*(fire_schedules(kitchen.engine, HOURLY) for kitchen in kitchens))
        assert sum(fired) == 1
        await kitchens[0].do("dough")
        assert len(await kitchens[0].rows(operations)) == hours


async def test_after_a_downtime_it_fires_once_for_the_latest_and_counts_the_others(
    kitchen: Kitchen, time: Time
) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    time.advance(5 * HOUR + MINUTE)
    assert await fire(kitchen) == 1
    assert await placed(kitchen) == ["schedule:diner/clean@2026-03-01T17:00:00.000Z (and 4 missed)"]
    row = await the_row(kitchen)
    assert (row["missed"], row["skipped"], row["next_due_at"]) == (4, 0, NOON + 6 * 3_600_000_000)


async def test_after_a_downtime_of_years_it_still_fires_for_the_latest(kitchen: Kitchen, time: Time) -> None:
    known = {NAME: Schedule("clean", lambda: DOUGH, every=timedelta(seconds=1))}
    await register_schedules(kitchen.engine, known)
    time.advance(1_000 * DAY)
    assert await fire(kitchen, known) == 1
    row = await the_row(kitchen)
    assert (row["last_due_at"], row["missed"]) == (time.now(), 1_000 * 86_400 - 1)


async def test_a_cron_line_too_fires_once_after_a_downtime(kitchen: Kitchen, time: Time) -> None:
    await register_schedules(kitchen.engine, AT_SIX)
    time.advance(3 * DAY)
    assert await fire(kitchen, AT_SIX) == 1
    assert await placed(kitchen) == ["schedule:diner/clean@2026-03-04T06:00:00.000Z (and 2 missed)"]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe"])
async def test_after_a_fortnight_a_cron_line_of_every_minute_fires_for_the_latest_and_counts_exactly(
    kitchen: Kitchen, time: Time, zone: str
) -> None:
    known = {NAME: Schedule("clean", lambda: DOUGH, cron="* * * * *", zone=zone)}
    await register_schedules(kitchen.engine, known)
    time.advance(14 * DAY + timedelta(seconds=30))
    assert await fire(kitchen, known) == 1
    assert await placed(kitchen) == ["schedule:diner/clean@2026-03-15T12:00:00.000Z (and 20159 missed)"]
    row = await the_row(kitchen)
    assert (row["last_due_at"], row["missed"]) == (NOON + as_micros(14 * DAY), 20_159)
    assert row["next_due_at"] == NOON + as_micros(14 * DAY + MINUTE)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris"])
async def test_after_three_years_it_still_fires_for_the_latest_and_says_how_many_there_were_at_least(
    kitchen: Kitchen, time: Time, zone: str
) -> None:
    known = {NAME: Schedule("clean", lambda: DOUGH, cron="* * * * *", zone=zone)}
    await register_schedules(kitchen.engine, known)
    time.advance(3 * 365 * DAY + timedelta(seconds=30))
    assert await fire(kitchen, known) == 1
    least = MOST_COUNTED - 1
    assert await placed(kitchen) == [f"schedule:diner/clean@2029-02-28T12:00:00.000Z (and at least {least} missed)"]
    row = await the_row(kitchen)
    assert (row["last_due_at"], row["missed"]) == (NOON + as_micros(3 * 365 * DAY), least)
    assert await fire(kitchen, known) == 0


@pytest.mark.parametrize("line", ["* * * * *", "*/7 * * * *", "30 2 * * *", "*/20 1-3 * * *", "15,45 */2 * * 0"])
@pytest.mark.parametrize(
    ("zone", "change"),
    [
        ("Europe/Paris", "2026-03-29 01:00"),
        ("Europe/Paris", "2026-10-25 01:00"),
        ("America/New_York", "2026-11-01 06:00"),
        ("Australia/Lord_Howe", "2026-04-04 15:00"),
    ],
)
def test_the_latest_due_time_is_the_last_of_all_also_around_a_change_of_clocks(
    line: str, zone: str, change: str
) -> None:
    schedule = Schedule("clean", lambda: DOUGH, cron=line, zone=zone)
    began = utc(change) - as_micros(15 * DAY)
    times = [began]
    for due in due_times(schedule, after=began):
        times.append(due)
        if due > utc(change) + as_micros(2 * DAY):
            break
    first, last = times[1], 1
    for minutes in range(-200, 1_000, 13):
        now = utc(change) + minutes * 60_000_000
        while times[last + 1] <= now:
            last += 1
        assert latest_due(schedule, first_due=first, now=now) == times[last]


async def test_due_while_its_last_run_is_alive_it_is_skipped_and_counted(kitchen: Kitchen, time: Time) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    time.advance(HOUR)
    assert await fire_schedules(kitchen.engine, HOURLY) == 1
    for _ in range(3):
        time.advance(HOUR)
        assert await fire_schedules(kitchen.engine, HOURLY) == 0
    row = await the_row(kitchen)
    assert (row["skipped"], row["missed"], row["next_due_at"]) == (3, 0, time.now() + 3_600_000_000)
    await kitchen.do("dough")
    time.advance(HOUR)
    assert await fire_schedules(kitchen.engine, HOURLY) == 1
    assert len(await placed(kitchen)) == 2


async def test_a_run_that_is_kept_alive_is_neither_skipped_nor_warned_of(
    kitchen: Kitchen, time: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    lasting = {NAME: Schedule("clean", lambda: DOUGH, every=HOUR, keeps_alive=True)}
    await register_schedules(kitchen.engine, lasting)
    time.advance(HOUR)
    assert await fire_schedules(kitchen.engine, lasting) == 1
    for _ in range(3):
        time.advance(HOUR)
        assert await fire_schedules(kitchen.engine, lasting) == 0
    row = await the_row(kitchen)
    assert (row["skipped"], row["missed"], row["next_due_at"]) == (0, 0, NOON + 5 * 3_600_000_000)
    assert "skipped" not in capsys.readouterr().out
    [claimed] = await kitchen.claim("dough")
    await kitchen.complete(claimed)
    time.advance(HOUR)
    assert await fire_schedules(kitchen.engine, lasting) == 1
    assert len(await placed(kitchen)) == 2


async def test_that_it_is_skipped_is_told_once_a_run(
    kitchen: Kitchen, time: Time, capsys: pytest.CaptureFixture[str]
) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    for _ in range(2):
        for _ in range(5):
            time.advance(HOUR)
            await fire_schedules(kitchen.engine, HOURLY)
        assert capsys.readouterr().out.count("skipped until that has ended") == 1
        await kitchen.do("dough")
    assert (await the_row(kitchen))["skipped"] == 8


@pytest.mark.parametrize("plan", [DOUGH, Plan([PlannedTask("dough")], approval=Approval("Clean the oven?"))])
async def test_a_run_that_waits_for_staff_or_a_worker_is_alive(kitchen: Kitchen, time: Time, plan: Plan) -> None:
    known = {NAME: Schedule("clean", lambda: plan, every=HOUR)}
    await register_schedules(kitchen.engine, known)
    fired = 0
    for _ in range(3):
        time.advance(HOUR)
        fired += await fire_schedules(kitchen.engine, known)
    assert fired == 1


async def test_a_run_that_was_cancelled_or_failed_is_not_alive(kitchen: Kitchen, time: Time) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    time.advance(HOUR)
    await fire_schedules(kitchen.engine, HOURLY)
    [row] = await kitchen.rows(operations)
    await cancel_operation(kitchen.engine, row["id"], reason="not today")
    time.advance(HOUR)
    assert await fire_schedules(kitchen.engine, HOURLY) == 1
    await kitchen.fail(await kitchen.take("dough"), final=True)
    time.advance(HOUR)
    assert await fire_schedules(kitchen.engine, HOURLY) == 1


async def test_two_clocks_that_skip_at_once_count_it_once(doors: Doors, time: Time) -> None:
    kitchens = [Kitchen(await doors.open(), time) for _ in range(4)]
    await register_schedules(kitchens[0].engine, HOURLY)
    time.advance(HOUR)
    await fire_schedules(kitchens[0].engine, HOURLY)
    time.advance(HOUR)
    assert await asyncio.gather(*(fire_schedules(kitchen.engine, HOURLY) for kitchen in kitchens)) == [0] * 4
    assert (await the_row(kitchens[0]))["skipped"] == 1


# Changing it.


async def test_a_start_of_the_server_leaves_the_next_due_time_as_it_is(kitchen: Kitchen, time: Time) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    time.advance(90 * MINUTE)
    await register_schedules(kitchen.engine, HOURLY)
    assert await fire(kitchen) == 1


async def test_one_whose_times_were_changed_begins_anew(kitchen: Kitchen, time: Time) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    time.advance(90 * MINUTE)
    await register_schedules(kitchen.engine, AT_SIX)
    assert await fire(kitchen, AT_SIX) == 0
    row = await the_row(kitchen)
    assert (row["spec"], row["next_due_at"]) == ("0 6 * * * UTC", utc("2026-03-02 06:00"))


async def test_a_due_time_that_fired_before_does_not_fire_again_when_the_clock_was_set_back(
    kitchen: Kitchen, time: Time
) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    time.advance(HOUR)
    assert await fire(kitchen) == 1
    time.set_wall_clock(-HOUR)
    every_half_hour = {NAME: Schedule("clean", lambda: DOUGH, every=HOUR / 2)}
    await register_schedules(kitchen.engine, every_half_hour)
    time.advance(HOUR / 2)
    assert await fire(kitchen, every_half_hour) == 1
    time.advance(HOUR / 2)
    assert await fire(kitchen, every_half_hour) == 0, "it is one o'clock again"
    time.advance(HOUR / 2)
    assert await fire(kitchen, every_half_hour) == 1


async def test_while_it_is_paused_it_is_not_placed_and_afterwards_nothing_is_made_up_for(
    kitchen: Kitchen, time: Time
) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    assert await pause_schedule(kitchen.engine, NAME, is_paused=True)
    for _ in range(3):
        time.advance(HOUR)
        assert await fire(kitchen) == 0
    time.advance(MINUTE)
    assert await pause_schedule(kitchen.engine, NAME, is_paused=False)
    assert await fire(kitchen) == 0
    time.advance(HOUR - MINUTE)
    assert await fire(kitchen) == 1
    assert await placed(kitchen) == ["schedule:diner/clean@2026-03-01T16:00:00.000Z"]
    row = await the_row(kitchen)
    assert (row["missed"], row["skipped"]) == (0, 0)


async def test_a_schedule_that_is_not_there_cannot_be_paused(kitchen: Kitchen) -> None:
    assert not await pause_schedule(kitchen.engine, "diner/nothing", is_paused=True)


async def test_a_schedule_that_no_shop_here_has_is_left_to_others(kitchen: Kitchen, time: Time) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    time.advance(HOUR)
    assert await fire(kitchen, {"diner/other": HOURLY[NAME]}) == 0
    assert await fire(kitchen, {}) == 0
    assert await fire(kitchen) == 1


# A shop's code that fails.


def no_plan() -> Plan:
    message = "the recipe is lost"
    raise LookupError(message)


@pytest.mark.parametrize("plan", [no_plan, lambda: Plan([PlannedTask("fry")])])
async def test_a_plan_that_cannot_be_made_costs_its_due_time_and_holds_up_no_other_schedule(
    kitchen: Kitchen, time: Time, plan: Callable[[], Plan]
) -> None:
    broken = Schedule("broken", plan, every=HOUR)
    known = {"diner/broken": broken, **HOURLY}
    await register_schedules(kitchen.engine, known)
    time.advance(HOUR)
    assert await fire(kitchen, known) == 1
    missed = {row["name"]: (row["missed"], row["next_due_at"]) for row in await kitchen.rows(schedules)}
    assert missed["diner/broken"] == (1, NOON + 7_200_000_000)
    assert await fire(kitchen, known) == 0
    [row] = await kitchen.rows(operations)
    assert row["status"] == OperationStatus.COMPLETED


# By hand.


async def test_it_is_run_by_hand_beside_its_times_and_not_while_the_last_run_lives(kitchen: Kitchen) -> None:
    await register_schedules(kitchen.engine, HOURLY)
    due = (await the_row(kitchen))["next_due_at"]
    first = await run_schedule(kitchen.engine, NAME, HOURLY[NAME])
    row = await the_row(kitchen)
    assert (row["last_operation_id"], row["next_due_at"]) == (first, due)
    assert await placed(kitchen) == [f"schedule:{NAME} by hand"]
    with pytest.raises(Conflict, match="still under way"):
        await run_schedule(kitchen.engine, NAME, HOURLY[NAME])
    await cancel_operation(kitchen.engine, first, reason="no time")
    runs = [run_schedule(kitchen.engine, NAME, HOURLY[NAME]) for _ in range(2)]
    found = await asyncio.gather(*runs, return_exceptions=True)
    assert sorted(isinstance(each, Conflict) for each in found) == [False, True]
    assert len(await placed(kitchen)) == 2


async def test_one_that_nobody_knows_cannot_be_run(kitchen: Kitchen) -> None:
    with pytest.raises(NotFound):
        await run_schedule(kitchen.engine, NAME, HOURLY[NAME])
