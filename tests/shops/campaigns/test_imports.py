"""Files read into the tables, and their campaigns placed: by whom and how often ever, each once. On both databases."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy import delete, func, insert, select, update

from orderup.db.connect import open_database
from orderup.db.database import WriteConnection
from orderup.db.tables import operations
from orderup.engine.engine import Engine
from orderup.engine.place import place_order
from orderup.engine.steer import cancel_operation, pause_operation
from orderup.errors import Conflict, Invalid, NotFound
from orderup.model.operation import OperationStatus
from orderup.shops.campaigns import shop
from orderup.shops.campaigns.campaign import MOST_ADS, Campaign
from orderup.shops.campaigns.campaigns import add_campaign
from orderup.shops.campaigns.import_forgetting import ABANDONED_US, CAMPAIGNS_FORGOTTEN, KEPT_US, tidy_up
from orderup.shops.campaigns.import_preview import estimate, in_words, preview_lines
from orderup.shops.campaigns.import_reading import read_import
from orderup.shops.campaigns.imports import (
    MOST_ERRORS_KEPT,
    SILENT_US,
    Import,
    ImportState,
    discard,
    find_import,
    read_errors,
    read_imports,
    start,
    still_placing,
    unfinished_import,
    why_stopped,
)
from orderup.shops.campaigns.placing import Also, Placer, finish, plan_import
from orderup.shops.campaigns.tables import campaigns, import_campaigns, import_errors, import_parts, imports
from tests.shops.campaigns.files import many, row, write


class Cut(Exception):
    """Ends what runs, in the middle. tests/cli/test_campaigns.py does so by a kill."""


@pytest_asyncio.fixture
async def engine(database_url: str) -> AsyncIterator[Engine]:
    database = open_database(database_url, shops=[shop])
    await database.open()
    try:
        yield Engine(database, {shop.name: shop.kinds})
    finally:
        await database.close()


async def begin(engine: Engine, path: Path, *, is_strict: bool = False) -> Import:
    """Read, and started."""
    found = await read_import(engine, path, name=path.name, is_strict=is_strict)
    await engine.database.write(partial(start, id=found.id, now=engine.now()))
    return found


async def place_all(engine: Engine, id: int, *, cut_after: int | None = None) -> None:
    """cut_after: so many campaigns, the next one not committed."""
    placed = 0

    async def place(campaign: Campaign, also: Also) -> None:
        def write(connection: WriteConnection, operation_id: int) -> None:
            also(connection, operation_id)
            if placed == cut_after:
                raise Cut

        nonlocal placed
        await add_campaign(engine, campaign, source="import", also=write)
        placed += 1

    placer = Placer(id, engine.database.read, place)
    while await placer.place_some() is not None:
        pass
    await engine.database.write(partial(finish, id=id, now=engine.now()))


async def ids_here(engine: Engine) -> list[str]:
    return await engine.database.read(
        lambda connection: sorted(row[0] for row in connection.rows(select(campaigns.c.id)))
    )


async def count(engine: Engine, table: object) -> int:
    return await engine.database.read(
        lambda connection: connection.execute(select(func.count()).select_from(table)).scalar_one()  # type: ignore[arg-type]
    )


def ids_of(number: int) -> list[str]:
    return sorted(f"campaign-{each}" for each in range(number))


# reading


async def test_a_file_is_read_and_counted_before_anything_is_placed(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(3, groups=2, ads=4))
    read: list[int] = []
    found = await read_import(engine, path, name="a.csv", by="ann", note=read.append)
    assert (found.state, found.name, found.by) == ("ready", "a.csv", "ann")
    assert (found.rows, found.campaigns, found.ad_groups, found.ads) == (24, 3, 6, 24)
    assert (found.errors, found.here, found.placed, found.waiting) == (0, 0, 0, 3)
    assert read[-1] == found.read == found.size == path.stat().st_size
    assert await ids_here(engine) == []


async def test_a_file_that_cannot_be_read_leaves_nothing(engine: Engine, tmp_path: Path) -> None:
    rows = [row(ad_id=f"ad-{number}") for number in range(9_000)]
    path = write(tmp_path / "a.csv", rows)
    path.write_bytes(path.read_bytes() + b"\xff\n")
    with pytest.raises(Invalid, match=r"Line 9,002 is not in UTF-8"):
        await read_import(engine, path, name="a.csv")
    assert [await count(engine, table) for table in (imports, import_parts, import_campaigns, import_errors)] == [0] * 4


async def test_errors_are_all_counted_and_the_first_of_them_kept(engine: Engine, tmp_path: Path) -> None:
    rows = [row(ad_id=f"ad-{number}", bid="free") for number in range(MOST_ERRORS_KEPT + 500)]
    found = await read_import(engine, write(tmp_path / "a.csv", rows), name="a.csv")
    assert (found.errors, found.campaigns) == (1_500, 0)
    kept = await engine.database.read(partial(read_errors, id=found.id))
    assert len(kept) == MOST_ERRORS_KEPT
    assert (kept[0][1].line, kept[-1][1].line) == (2, 1_001)


async def test_errors_within_rows_and_between_them_are_told_together(engine: Engine, tmp_path: Path) -> None:
    rows = [row(), row(ad_id="ad-2", bid="free"), row(ad_id="ad-1", ad_group_id="old")]
    found = await read_import(engine, write(tmp_path / "a.csv", rows), name="a.csv")
    kept = await engine.database.read(partial(read_errors, id=found.id))
    assert [(problem.line, problem.column) for _, problem in kept] == [(3, "bid"), (4, "ad_id")]
    assert (found.errors, found.campaigns, found.ads) == (2, 1, 1)


async def test_a_campaign_of_too_many_ads_is_left_out_and_the_others_are_not(engine: Engine, tmp_path: Path) -> None:
    rows = [row(ad_id=f"ad-{number}") for number in range(MOST_ADS + 1)]
    found = await read_import(engine, write(tmp_path / "a.csv", [*rows, *many(1)]), name="a.csv")
    assert (found.campaigns, found.errors) == (1, 1)
    [(_, problem)] = await engine.database.read(partial(read_errors, id=found.id))
    assert (problem.line, problem.column) == (2, "campaign_id")
    assert "10,001 rows" in problem.message


@pytest.mark.parametrize(("is_strict", "is_dry_run"), [(True, False), (False, True)])
async def test_what_is_not_to_be_placed_is_only_told(
    engine: Engine, tmp_path: Path, *, is_strict: bool, is_dry_run: bool
) -> None:
    path = write(tmp_path / "a.csv", [*many(2), row(bid="free")])
    found = await read_import(engine, path, name="a.csv", is_strict=is_strict, is_dry_run=is_dry_run)
    assert (found.state, found.campaigns, found.errors, found.waiting) == ("discarded", 2, 1, 0)
    assert await count(engine, import_parts) == 0
    with pytest.raises(Conflict, match="is discarded, not ready"):
        await engine.database.write(partial(start, id=found.id, now=engine.now()))


async def test_a_strict_import_of_a_right_file_is_ready(engine: Engine, tmp_path: Path) -> None:
    found = await read_import(engine, write(tmp_path / "a.csv", many(2)), name="a.csv", is_strict=True)
    assert found.state is ImportState.READY


async def test_what_a_killed_reader_has_left_is_deleted_in_time(engine: Engine, tmp_path: Path) -> None:
    def kill(_read: int) -> None:
        raise Cut

    path = write(tmp_path / "a.csv", many(2))
    with pytest.raises(Cut):
        await read_import(engine, path, name="a.csv", note=kill)
    assert await count(engine, import_parts) == 2
    await read_import(engine, path, name="young", is_dry_run=True)
    assert await count(engine, import_parts) == 2  # somebody may still be reading it

    def age(connection: WriteConnection) -> None:
        connection.execute(update(imports).values(touched_at=engine.now() - ABANDONED_US - 1))

    await engine.database.write(age)
    await read_import(engine, path, name="old", is_dry_run=True)
    assert await count(engine, import_parts) == 0


async def test_a_reader_that_was_given_up_does_not_end_with_half_of_its_file(engine: Engine, tmp_path: Path) -> None:
    """As one that stood still for long and then goes on: its last slice waits for those who have given it up."""
    path = write(tmp_path / "a.csv", many(2))
    given_up: list[asyncio.Task[None]] = []

    def stand_still(_read: int) -> None:
        long_after = engine.now() + ABANDONED_US + 1_000_000
        given_up.append(asyncio.create_task(tidy_up(engine.database, now=long_after)))

    with pytest.raises(Conflict, match="was given up"):
        await read_import(engine, path, name="a.csv", note=stand_still)
    await asyncio.gather(*given_up)
    assert [await count(engine, table) for table in (imports, import_parts, import_campaigns)] == [0] * 3


async def test_others_write_while_an_old_import_is_forgotten(engine: Engine, tmp_path: Path) -> None:
    """It is deleted a few rows at a time."""
    found = await read_import(engine, write(tmp_path / "a.csv", [row(bid="free")]), name="a.csv", is_dry_run=True)
    rows = [
        {"import_id": found.id, "campaign_id": f"c{number:06}", "line": number, "ads": 1, "outcome": "placed"}
        for number in range(4 * CAMPAIGNS_FORGOTTEN)
    ]
    await engine.database.write(lambda connection: connection.execute(insert(import_campaigns), rows))
    forgetting = asyncio.create_task(tidy_up(engine.database, now=found.touched_at + KEPT_US + 1))
    seen: list[int] = []
    while not forgetting.done():
        seen.append(
            await engine.database.write(
                lambda connection: connection.rows(select(func.count()).select_from(import_campaigns))[0][0]
            )
        )
    await forgetting
    assert any(0 < each < len(rows) for each in seen)
    assert [await count(engine, table) for table in (imports, import_campaigns, import_errors)] == [0] * 3


# placing


async def test_every_campaign_is_placed_in_the_order_of_the_file(engine: Engine, tmp_path: Path) -> None:
    rows = [row(campaign_id=id) for id in ("b", "c", "a")]
    found = await begin(engine, write(tmp_path / "a.csv", rows))
    await place_all(engine, found.id)
    assert await ids_here(engine) == ["a", "b", "c"]
    after = await find_import(engine.database, found.id)
    assert (after.state, after.placed, after.waiting, after.here) == ("done", 3, 0, 0)
    assert await count(engine, import_parts) == 0
    sources = await engine.database.read(lambda connection: connection.rows(select(operations.c.source).distinct()))
    assert sources == [("import",)]


async def test_an_import_that_was_killed_goes_on_where_it_was(engine: Engine, tmp_path: Path) -> None:
    found = await begin(engine, write(tmp_path / "a.csv", many(5, groups=4, ads=300)))
    for cut_after, here in ((1, 1), (2, 3)):
        with pytest.raises(Cut):
            await place_all(engine, found.id, cut_after=cut_after)
        assert len(await ids_here(engine)) == here
        assert (await find_import(engine.database, found.id)).placed == here
    await place_all(engine, found.id)
    assert await ids_here(engine) == ids_of(5)
    assert await count(engine, operations) == 5


async def test_what_was_killed_in_the_middle_is_found_by_its_file(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(3))
    found = await begin(engine, path)
    assert await unfinished_import(engine.database, found.digest, is_strict=True) is None
    again = await unfinished_import(engine.database, found.digest, is_strict=False)
    assert again is not None
    assert again.id == found.id
    await place_all(engine, found.id)
    assert await unfinished_import(engine.database, found.digest, is_strict=False) is None


async def test_campaigns_that_are_here_already_are_told_and_left_out(engine: Engine, tmp_path: Path) -> None:
    first = await begin(engine, write(tmp_path / "a.csv", many(2)))
    await place_all(engine, first.id)
    found = await begin(engine, write(tmp_path / "b.csv", many(5)))
    assert (found.campaigns, found.here, found.waiting) == (5, 2, 3)
    await place_all(engine, found.id)
    after = await find_import(engine.database, found.id)
    assert (after.placed, after.here) == (3, 2)
    assert await count(engine, operations) == 5


async def test_a_campaign_that_is_placed_by_hand_meanwhile_is_left_out(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(3))
    found, other = await begin(engine, path), await begin(engine, write(tmp_path / "b.csv", many(1)))
    await place_all(engine, other.id)
    await place_all(engine, found.id)
    after = await find_import(engine.database, found.id)
    assert (after.state, after.placed, after.here) == ("done", 2, 1)


async def test_two_imports_of_one_file_at_once_place_each_campaign_once(engine: Engine, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(40))
    one, two = await asyncio.gather(begin(engine, path), begin(engine, path))
    await asyncio.gather(place_all(engine, one.id), place_all(engine, two.id))
    assert await ids_here(engine) == ids_of(40)
    assert await count(engine, operations) == 40
    after = [await find_import(engine.database, each.id) for each in (one, two)]
    assert [each.placed + each.here for each in after] == [40, 40]
    assert sum(each.placed for each in after) == 40


async def test_two_that_place_one_import_at_once_place_each_campaign_once(engine: Engine, tmp_path: Path) -> None:
    found = await begin(engine, write(tmp_path / "a.csv", many(40)))
    await asyncio.gather(*(place_all(engine, found.id) for _ in range(3)))
    assert await count(engine, operations) == 40
    after = await find_import(engine.database, found.id)
    assert (after.state, after.placed, after.here) == ("done", 40, 0)


async def test_what_is_discarded_is_placed_no_more_and_what_was_placed_stays(engine: Engine, tmp_path: Path) -> None:
    found = await begin(engine, write(tmp_path / "a.csv", many(5, groups=4, ads=300)))
    with pytest.raises(Cut):
        await place_all(engine, found.id, cut_after=2)
    await engine.database.write(partial(discard, id=found.id, now=engine.now()))
    await place_all(engine, found.id)
    after = await find_import(engine.database, found.id)
    assert (after.state, after.placed, after.waiting) == ("discarded", 2, 0)
    assert await count(engine, operations) == 2
    with pytest.raises(Conflict, match="is discarded"):
        await engine.database.write(partial(discard, id=found.id, now=engine.now()))


async def test_a_campaign_on_its_way_when_its_import_is_discarded_is_not_placed(engine: Engine, tmp_path: Path) -> None:
    found = await begin(engine, write(tmp_path / "a.csv", many(1)))

    async def place(campaign: Campaign, also: Also) -> None:
        await engine.database.write(partial(discard, id=found.id, now=engine.now()))
        await add_campaign(engine, campaign, source="import", also=also)

    await Placer(found.id, engine.database.read, place).place_some()
    assert (await count(engine, operations), await count(engine, campaigns)) == (0, 0)


# what has stopped halfway


async def begin_by_operation(engine: Engine, path: Path) -> Import:
    """As a request does: an operation is to place its campaigns."""
    found = await read_import(engine, path, name=path.name)
    await resume(engine, found)
    return await find_import(engine.database, found.id)


async def resume(engine: Engine, found: Import) -> None:
    def note(connection: WriteConnection, operation_id: int) -> None:
        start(connection, found.id, now=engine.now(), operation_id=operation_id)

    await place_order(engine, shop.name, plan_import(found.id), also=note)


async def say_how_it_became(engine: Engine, operation_id: int, status: OperationStatus | None) -> None:
    """None: it has been pruned."""
    its_row = operations.c.id == operation_id

    def write_down(connection: WriteConnection) -> None:
        if status is None:
            connection.execute(delete(operations).where(its_row))
        else:
            connection.execute(update(operations).where(its_row).values(status=status, finished_at=engine.now()))

    await engine.database.write(write_down)


@pytest.mark.parametrize(
    ("became", "said"),
    [
        (OperationStatus.CANCELLED, "was cancelled"),
        (OperationStatus.ERRORED, "has failed"),
        (OperationStatus.COMPLETED, "is over"),
        (None, "is gone"),
    ],
)
async def test_an_import_goes_on_once_the_operation_that_placed_it_is_over(
    engine: Engine, tmp_path: Path, became: OperationStatus | None, said: str
) -> None:
    begun = await begin_by_operation(engine, write(tmp_path / "a.csv", many(5, groups=4, ads=300)))
    with pytest.raises(Cut):
        await place_all(engine, begun.id, cut_after=2)
    with pytest.raises(Conflict, match="is placing"):
        await resume(engine, begun)
    assert begun.operation_id is not None
    await say_how_it_became(engine, begun.operation_id, became)
    if became is None:  # which is believed after a minute
        await engine.database.write(
            lambda connection: connection.execute(update(imports).values(touched_at=begun.touched_at - SILENT_US - 1))
        )
    stopped = await find_import(engine.database, begun.id)
    assert said in (why_stopped(stopped, now=engine.now()) or "")
    await resume(engine, begun)
    resumed = await find_import(engine.database, begun.id)
    assert resumed.operation_id not in {None, begun.operation_id}
    assert why_stopped(resumed, now=engine.now()) is None
    await place_all(engine, begun.id)
    after = await find_import(engine.database, begun.id)
    assert (after.state, after.placed, after.waiting) == ("done", 5, 0)
    assert await ids_here(engine) == ids_of(5)


async def test_an_import_whose_operation_is_cancelled_is_resumed_once(engine: Engine, tmp_path: Path) -> None:
    begun = await begin_by_operation(engine, write(tmp_path / "a.csv", many(3)))
    assert begun.operation_id is not None
    await cancel_operation(engine, begun.operation_id, reason="by mistake")
    outcomes = await asyncio.gather(*(resume(engine, begun) for _ in range(4)), return_exceptions=True)
    assert [type(each) for each in outcomes if each is not None] == [Conflict] * 3
    # what was refused has placed no operation, either
    assert await count(engine, operations) == 2


async def test_an_import_whose_operation_is_paused_has_not_stopped(engine: Engine, tmp_path: Path) -> None:
    begun = await begin_by_operation(engine, write(tmp_path / "a.csv", many(3)))
    assert begun.operation_id is not None
    await pause_operation(engine, begun.operation_id)
    assert why_stopped(await find_import(engine.database, begun.id), now=engine.now()) is None
    with pytest.raises(Conflict, match="is placing"):
        await resume(engine, begun)


async def test_an_import_goes_on_once_nothing_is_heard_of_the_command_that_placed_it(
    engine: Engine, tmp_path: Path
) -> None:
    found = await begin(engine, write(tmp_path / "a.csv", many(5, groups=4, ads=300)))
    with pytest.raises(Cut):
        await place_all(engine, found.id, cut_after=2)
    begun_at = (await find_import(engine.database, found.id)).touched_at
    later = begun_at + SILENT_US
    await engine.database.write(partial(still_placing, id=found.id, now=later))
    found = await find_import(engine.database, found.id)
    assert why_stopped(found, now=later + SILENT_US) is None
    with pytest.raises(Conflict, match="is placing"):
        await engine.database.write(partial(start, id=found.id, now=later + SILENT_US))
    assert "the command that placed its campaigns" in (why_stopped(found, now=later + SILENT_US + 1) or "")
    await engine.database.write(partial(start, id=found.id, now=later + SILENT_US + 1))
    await place_all(engine, found.id)
    assert await ids_here(engine) == ids_of(5)
    assert await count(engine, operations) == 5


# how many there are


async def test_what_is_looked_at_again_and_again_is_not_counted_again(engine: Engine, tmp_path: Path) -> None:
    """What is in the tables of an import that has ended does not matter to a look, however much that is."""
    await place_all(engine, (await begin(engine, write(tmp_path / "a.csv", many(1)))).id)
    done = await begin(engine, write(tmp_path / "b.csv", many(4)))
    await place_all(engine, done.id)
    stopped = await begin(engine, write(tmp_path / "c.csv", [*many(4), *(row(campaign_id=f"c{n}") for n in range(3))]))
    await engine.database.write(partial(discard, id=stopped.id, now=engine.now()))
    await read_import(engine, write(tmp_path / "d.csv", many(6)), name="d.csv")  # counts what has ended
    expected = [("ready", 0, 4, 2), ("discarded", 0, 4, 0), ("done", 3, 1, 0), ("done", 1, 0, 0)]
    assert await counts(engine) == expected
    await engine.database.write(
        lambda connection: connection.execute(delete(import_campaigns).where(import_campaigns.c.outcome.is_not(None)))
    )
    assert await counts(engine) == expected


async def counts(engine: Engine) -> list[tuple[str, int, int, int]]:
    found = await engine.database.read(partial(read_imports, condition=imports.c.id > 0))
    return [(each.state, each.placed, each.here, each.waiting) for each in found]


async def test_an_import_that_is_being_placed_is_counted_as_it_goes(engine: Engine, tmp_path: Path) -> None:
    await place_all(engine, (await begin(engine, write(tmp_path / "a.csv", many(1)))).id)
    found = await begin(engine, write(tmp_path / "b.csv", many(5, groups=4, ads=300)))
    assert (await counts(engine))[0] == ("placing", 0, 1, 4)
    with pytest.raises(Cut):
        await place_all(engine, found.id, cut_after=2)
    assert (await counts(engine))[0] == ("placing", 2, 1, 2)


async def test_an_import_that_is_not_there_is_not_found(engine: Engine) -> None:
    with pytest.raises(NotFound):
        await find_import(engine.database, 1)
    with pytest.raises(NotFound):
        await engine.database.write(partial(start, id=1, now=0))


# how long it takes


def test_a_million_ads_at_forty_a_minute_are_seventeen_days() -> None:
    took = estimate(0, 0, 1_000_000, 40)
    assert in_words(took.least) == "17 days"
    assert took.usual == 2 * took.least


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (timedelta(seconds=10), "less than a minute"),
        (timedelta(seconds=60), "1 minute"),
        (timedelta(minutes=119), "119 minutes"),
        (timedelta(hours=3), "3 hours"),
        (timedelta(hours=47), "47 hours"),
        (timedelta(days=2), "2 days"),
        (timedelta(days=3_000), "3,000 days"),
    ],
)
def test_lengths_of_time_are_said_in_one_unit(length: timedelta, words: str) -> None:
    assert in_words(length) == words


async def test_the_preview_says_what_is_wrong_and_how_long_it_takes(engine: Engine, tmp_path: Path) -> None:
    rows: Sequence[dict[str, str]] = [*many(2, groups=2, ads=10), *(row(ad_id=f"{each}", bid="x") for each in range(3))]
    found = await read_import(engine, write(tmp_path / "a.csv", rows), name="a.csv")
    errors = await engine.database.read(partial(read_errors, id=found.id, most=2))
    assert preview_lines(found, [problem for _, problem in errors], a_minute=2) == [
        "a.csv: 43 rows, 2 campaigns with 4 ad groups and 40 ads",
        "3 things are wrong; the rows are left out:",
        *(f"  line {line}, bid {errors[0][1].message}" for line in (42, 43)),
        "  and 1 more",
        (
            "At 2 requests a minute the platform takes 23 minutes at least, "
            "and 46 minutes if everything is asked after once"
        ),
    ]
