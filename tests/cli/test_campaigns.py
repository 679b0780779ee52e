"""`orderup campaigns import`, at a terminal and without one, and killed on the way."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import Table

from orderup.db.tables import operations
from orderup.shops.campaigns.imports import ImportState
from orderup.shops.campaigns.tables import campaigns, import_parts, imports
from tests.cli.running import assert_refused, run
from tests.cli.terminal import at_terminal
from tests.invariants.evidence import read_table_at
from tests.services.waiting import wait_until
from tests.serving import ORDERUP, Program, sqlite_url
from tests.shops.campaigns.files import many, row, write

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))]
# Enough for a kill to hit it in the middle.
CAMPAIGNS = 120


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    found: str = request.getfixturevalue("postgres_database")
    return found


@pytest.fixture
def one_url(tmp_path: Path) -> str:
    return sqlite_url(tmp_path)


def count(url: str, table: Table) -> int:
    return len(read_table_at(url, table))


def states(url: str) -> Sequence[str]:
    return [each.state for each in read_table_at(url, imports)]


def test_a_file_is_imported(url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(3))
    result = run("campaigns", "import", path, "--yes", DATABASE_URL=url)
    assert result.exit_code == 0, result.output
    assert "a.csv: 18 rows, 3 campaigns with 6 ad groups and 18 ads" in result.stdout
    assert "Imported: 3 campaigns." in result.stdout
    assert (count(url, campaigns), count(url, operations), states(url)) == (3, 3, [ImportState.DONE])


def test_the_same_file_again_imports_nothing_again(one_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(3))
    run("campaigns", "import", path, "--yes", DATABASE_URL=one_url)
    result = run("campaigns", "import", path, "--yes", DATABASE_URL=one_url)
    assert result.exit_code == 0
    assert "3 of the campaigns are here already and are left out" in result.stdout
    assert "Imported: 0 campaigns; 3 were here already." in result.stdout
    assert count(one_url, operations) == 3


def test_rows_that_are_wrong_are_told_and_left_out(one_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [row(), row(ad_id="ad-2", bid="free"), row(ad_id="ad-3")])
    result = run("campaigns", "import", path, "--yes", DATABASE_URL=one_url)
    assert result.exit_code == 1
    assert "1 thing is wrong; its row is left out:" in result.stdout
    assert "line 3, bid is no amount: 'free'" in result.stdout
    assert "Imported: 1 campaigns." in result.stdout
    assert [each.ads for each in read_table_at(one_url, campaigns)] == [2]


@pytest.mark.parametrize("options", [["--strict", "--yes"], ["--dry-run"], ["--strict", "--dry-run"]])
def test_a_file_may_be_imported_as_a_whole_or_only_looked_at(
    one_url: str, tmp_path: Path, options: Sequence[str]
) -> None:
    path = write(tmp_path / "a.csv", [row(), row(ad_id="ad-2", bid="free")])
    result = run("campaigns", "import", path, *options, DATABASE_URL=one_url)
    assert result.exit_code == 1
    assert "Nothing was imported" in result.stdout
    assert (count(one_url, campaigns), count(one_url, import_parts)) == (0, 0)


def test_a_look_at_a_right_file_ends_well(one_url: str, tmp_path: Path) -> None:
    result = run("campaigns", "import", write(tmp_path / "a.csv", many(2)), "--dry-run", DATABASE_URL=one_url)
    assert result.exit_code == 0
    assert count(one_url, campaigns) == 0


def test_who_cannot_be_asked_has_to_say_yes(one_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(1))
    assert_refused(run("campaigns", "import", path, DATABASE_URL=one_url), "--yes")


def test_a_file_that_cannot_be_read_is_told_in_one_sentence(one_url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert_refused(run("campaigns", "import", path, "--yes", DATABASE_URL=one_url), "There is no file")
    path.write_text("")
    refused = run("campaigns", "import", path, "--dry-run", DATABASE_URL=one_url)
    assert (refused.exit_code, refused.stderr) == (2, "orderup: The file is empty. Its first line names the columns.\n")


def importing(url: str, path: Path, tmp_path: Path) -> Program:
    command: list[str | Path] = [ORDERUP, "campaigns", "import", path, "--yes"]
    return Program("import", command, log=tmp_path / "import.log", environment={"DATABASE_URL": url})


def until_here(url: str, enough: int, program: Program) -> None:
    def are_here() -> bool:
        assert program.runs, program.last_lines()
        return count(url, campaigns) >= enough

    wait_until(are_here, what=f"{enough} campaigns are here")


def test_an_import_that_is_killed_twice_places_each_campaign_once(url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(CAMPAIGNS, groups=4, ads=50))
    run("migrate", DATABASE_URL=url)
    with importing(url, path, tmp_path) as program:
        for enough in (5, 20):
            program.launch()
            until_here(url, enough, program)
            program.kill()
            assert enough <= count(url, campaigns) < CAMPAIGNS
        program.launch()
        assert program.wait() == 0, program.last_lines()
        assert "This file was begun to be imported before" in program.printed()
    assert sorted(each.id for each in read_table_at(url, campaigns)) == sorted(
        f"campaign-{number}" for number in range(CAMPAIGNS)
    )
    assert (count(url, operations), count(url, import_parts), states(url)) == (CAMPAIGNS, 0, [ImportState.DONE])


def test_an_import_that_is_killed_while_it_reads_begins_anew(url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(CAMPAIGNS, groups=4, ads=100))
    run("migrate", DATABASE_URL=url)
    with importing(url, path, tmp_path) as program:
        program.launch()
        wait_until(
            lambda: count(url, import_parts) > 0 or not program.runs,
            what="something was read",
        )
        program.kill()
        assert states(url) == [ImportState.READING]
        program.launch()
        assert program.wait() == 0, program.last_lines()
    assert count(url, operations) == CAMPAIGNS


def test_two_that_import_one_file_at_once_place_each_campaign_once(url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(30, groups=2, ads=50))
    run("migrate", DATABASE_URL=url)
    with importing(url, path, tmp_path) as one, importing(url, path, tmp_path) as two:
        for program in (one, two):
            program.launch()
        assert [program.wait() for program in (one, two)] == [0, 0], one.last_lines()
    assert (count(url, campaigns), count(url, operations)) == (30, 30)


def test_at_a_terminal_it_asks_and_no_imports_nothing(one_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(3))
    with at_terminal(tmp_path, "campaigns", "import", path, DATABASE_URL=one_url) as terminal:
        terminal.until("Import 3 campaigns? [y/N]")
        assert count(one_url, operations) == 0
        terminal.type("n\n")
        assert terminal.exit_code() == 1
        assert "Nothing was imported." in terminal.shown
    assert (count(one_url, operations), states(one_url)) == (0, [ImportState.DISCARDED])


def test_at_a_terminal_it_shows_how_far_it_is_and_imports_what_was_agreed_to(one_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(CAMPAIGNS))
    with at_terminal(tmp_path, "campaigns", "import", path, DATABASE_URL=one_url, TERM="xterm") as terminal:
        terminal.until("[y/N]")
        assert "Reading" in terminal.shown
        terminal.type("y\n")
        assert terminal.exit_code() == 0
        assert "Placing" in terminal.shown
        assert f"Imported: {CAMPAIGNS} campaigns." in terminal.shown
    assert (count(one_url, operations), states(one_url)) == (CAMPAIGNS, [ImportState.DONE])


def test_ctrl_c_at_the_question_leaves_nothing_begun(one_url: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", many(3))
    with at_terminal(tmp_path, "campaigns", "import", path, DATABASE_URL=one_url) as terminal:
        terminal.until("[y/N]")
        terminal.press_ctrl_c()
        assert terminal.exit_code() not in {0, None}
        assert "Traceback" not in terminal.shown
    assert count(one_url, operations) == 0
    with at_terminal(tmp_path, "campaigns", "import", path, DATABASE_URL=one_url) as terminal:
        terminal.until("[y/N]")
        terminal.type("y\n")
        assert terminal.exit_code() == 0
    assert count(one_url, operations) == 3
