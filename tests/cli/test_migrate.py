import sqlite3
from pathlib import Path

import pytest

from orderup.db.migrate import CORE_REVISIONS, _revisions
from tests.cli.running import assert_refused, run
from tests.serving import sqlite_url

DATABASES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    found: str = request.getfixturevalue("postgres_database")
    return found


def test_it_makes_the_tables_once_and_says_so(url: str) -> None:
    first, second = (run("migrate", DATABASE_URL=url) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert "orderup: tables made, version " in first.stdout
    assert "pizza: tables made, version " in first.stdout
    assert second.stdout.count("nothing to do") == first.stdout.count("tables made")


def test_it_leads_an_older_database_to_the_present(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    run("migrate", DATABASE_URL=url)
    with sqlite3.connect(tmp_path / "orderup.db") as database:
        database.execute("update pizza_version set version_num = 'tables-of-old'")
    result = run("migrate", DATABASE_URL=url)
    assert result.exit_code == 0, result.output
    assert "pizza: brought from version tables-of-old to " in result.stdout


def test_a_database_of_a_later_release_is_refused_in_one_sentence(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path)
    run("migrate", DATABASE_URL=url)
    with sqlite3.connect(tmp_path / "orderup.db") as database:
        database.execute("update orderup_version set version_num = '9999'")
    assert_refused(run("migrate", DATABASE_URL=url), "9999", "Install the newer release")


def test_a_shop_that_is_only_named_gets_its_tables(tmp_path: Path) -> None:
    result = run("migrate", "--shop", "tests.web.house:shop", DATABASE_URL=sqlite_url(tmp_path))
    assert result.exit_code == 0, result.output
    assert f"version {_revisions(CORE_REVISIONS)[-1]}" in result.stdout


def test_a_file_of_another_kind_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "orderup.db"
    file.write_text("my diary\n" * 1000)
    assert_refused(run("migrate", DATABASE_URL=sqlite_url(tmp_path)), "is no database of ours")
    assert file.read_text() == "my diary\n" * 1000


SHOP = """
from sqlalchemy import Column, Integer, MetaData, Table
from orderup import Shop

tables = MetaData()
Table("{name}_breads", tables, Column("id", Integer, primary_key=True))
shop = Shop("{name}", tables=tables, revisions="{name}.versions")
"""
REVISION = """
revision, down_revision = "{number}", {before!r}


def upgrade():
    raise LookupError("no flour")
"""


def test_a_revision_that_fails_is_told_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "bakery_of_a_test"
    versions = tmp_path / name / "versions"
    versions.mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text(SHOP.format(name=name))
    monkeypatch.syspath_prepend(str(tmp_path))
    for number, before in ((1, None), (2, "0001")):
        (versions / f"v000{number}_add.py").write_text(REVISION.format(number=f"000{number}", before=before))
        result = run("migrate", "--shop", f"{name}:shop", DATABASE_URL=sqlite_url(tmp_path))
    said = f"The shop {name}: revision v0002_add of {name}.versions failed", "LookupError: no flour. Mend it"
    assert_refused(result, *said)
    assert len(result.stderr.splitlines()) == 1
