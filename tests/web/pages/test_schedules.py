"""The page of schedules by HTTP, on both databases."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx2
import pytest
from sqlalchemy import update

from orderup.cli.assembly import House
from orderup.db.tables import schedules
from orderup.model.ids import read_id
from orderup.model.schedule import Schedule
from orderup.model.times import as_micros
from orderup.web.pages.schedules import in_words
from orderup.web.tokens import Role
from tests.web.house import CHAIN, client_of, place, token_of
from tests.web.pages.reading import buttons, cell, press, row_with, words_of


async def row(staff: httpx2.AsyncClient, name: str) -> str:
    answer = await staff.get("/schedules")
    assert answer.status_code == 200, answer.text
    return row_with(answer.text, f"<strong>{name}</strong>")


async def test_a_schedule_says_in_words_when_it_is_due(staff: httpx2.AsyncClient) -> None:
    assert cell(await row(staff, "nightly"), "When") == "At 03:00 every day, UTC"
    assert cell(await row(staff, "monthly"), "When") == "At 06:30 on the first day of every month, Europe/Paris"


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule("a", lambda: CHAIN, every=timedelta(minutes=5)), "every 5 min"),
        (Schedule("a", lambda: CHAIN, every=timedelta(seconds=100)), "every 1 min 40 s"),
        (Schedule("a", lambda: CHAIN, cron="*/15 * * * *"), "Every 15th minute of every hour, UTC"),
    ],
)
def test_times_of_a_schedule_in_words(schedule: Schedule, words: str) -> None:
    assert in_words(schedule) == words


async def test_the_next_five_due_times_are_told_in_utc_and_where_the_schedule_lives(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    told = re.findall(
        r"(\d\d \w{3} \d\d:\d\d) UTC (\w{3} \d\d \w{3} \d\d:\d\d) Europe/Paris",
        cell(await row(staff, "monthly"), "Next"),
    )
    assert len(told) == 5
    async with client_of(limited_house.back, token=token_of(Role.STAFF)) as client:
        listed = {
            each["name"]: each["next_due_at"] for each in (await client.get("/api/schedules")).json()["schedules"]
        }
    assert told[0][0] == f"{datetime.fromisoformat(listed['workshop/monthly']):%d %b %H:%M}"
    year = datetime.now(UTC).year
    for utc, local in told:
        moments = [datetime.strptime(f"{each} {utc} +0000", "%Y %d %b %H:%M %z") for each in (year, year + 1)]
        here = [at.astimezone(ZoneInfo("Europe/Paris")) for at in moments]
        assert local in [f"{at:%a %d %b %H:%M}" for at in here]
        assert re.fullmatch(r"\w{3} 01 \w{3} 06:30", local)
    nightly = cell(await row(staff, "nightly"), "Next")
    assert len(re.findall(r"03:00 UTC", nightly)) == 5, "and no zone besides"


async def test_a_schedule_tells_of_its_last_run_and_what_was_left_out(
    limited_house: House, staff: httpx2.AsyncClient
) -> None:
    assert cell(await row(staff, "nightly"), "Last") == "never yet"
    assert cell(await row(staff, "nightly"), "Not run") == "none"
    id = await place(limited_house)
    values = {
        "last_operation_id": read_id(id),
        "last_due_at": as_micros(datetime(2026, 3, 2, 3, tzinfo=UTC)),
        "skipped": 2,
        "missed": 7,
    }
    await limited_house.database.write(
        lambda connection: connection.execute(
            update(schedules).where(schedules.c.name == "workshop/nightly").values(values)
        )
    )
    nightly = await row(staff, "nightly")
    assert cell(nightly, "Last") == "02 Mar 03:00 UTC running"
    assert len(re.findall(r"<time [^>]*data-date", nightly)) == 1 + 5, "the next ones are shown as the last one is"
    assert f'href="/operations/{id}"' in nightly
    assert cell(nightly, "Not run") == "2 skipped: the last one was still under way 7 missed: no server ran"


async def test_a_schedule_is_paused_and_resumed_by_its_button(staff: httpx2.AsyncClient) -> None:
    nightly = await row(staff, "nightly")
    assert (cell(nightly, "State"), buttons(nightly)) == ("on", ["Pause", "Run now"])
    assert (await press(staff, nightly, "Pause")).status_code == 303
    nightly = await row(staff, "nightly")
    assert (cell(nightly, "State"), buttons(nightly)) == ("paused", ["Resume", "Run now"])
    assert cell(await row(staff, "weekly"), "State") == "on"
    await press(staff, nightly, "Resume")
    assert cell(await row(staff, "nightly"), "State") == "on"


async def test_staff_of_another_shop_sees_no_schedule_of_this_one_and_cannot_pause_it(limited_house: House) -> None:
    async with client_of(limited_house.back, token=token_of(Role.STAFF, shop="bakery")) as client:
        page = words_of((await client.get("/schedules")).text)
        assert "nightly" not in page.partition("A shop adds")[0]
        assert "Nothing is placed by itself" in page
        assert (await client.post("/schedules/workshop/nightly", data={"verb": "pause"})).status_code == 404


async def test_a_schedule_is_run_by_its_button_and_shows_what_it_placed(staff: httpx2.AsyncClient) -> None:
    answer = await press(staff, await row(staff, "nightly"), "Run now")
    assert answer.status_code == 303
    shown = await staff.get(answer.headers["location"])
    assert shown.status_code == 200
    assert "saw" in words_of(shown.text)
    again = await press(staff, await row(staff, "nightly"), "Run now")
    assert again.status_code == 409
    assert "still under way" in again.text
