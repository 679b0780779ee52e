"""Test runs inside test runs: what they look for, what they skip, what they say at their end."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY_LISTENS = "postgresql://postgres@127.0.0.1:1/postgres"


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for an inner test run that uses the services of this one, with no setting of the outer run."""
    for name in [name for name in os.environ if name.startswith("ORDERUP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest('pytest_plugins = ["tests.services.plugin"]')
    pytester.makepyfile(
        test_orders="""
        import pytest

        def test_in_memory():
            assert True

        def test_in_postgres(postgres_database):
            assert postgres_database.startswith("postgresql://")

        @pytest.mark.needs("postgres_url")
        @pytest.mark.parametrize("kind", ["postgres"])
        def test_in_either(request, kind):
            assert request.getfixturevalue("postgres_database")
        """
    )
    return pytester


def run(inner: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    # What these runs do not use is what takes longest to load.
    return inner.runpytest_subprocess("-p", "no:schemathesis", "-p", "no:hypothesispytest", *arguments)


def test_what_was_not_run_is_said_at_the_end(inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERUP_TEST_POSTGRES_URL", NOBODY_LISTENS)
    result = run(inner)
    result.assert_outcomes(passed=1, skipped=2)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        [
            "*!!! NOT RUN !!!*",
            "2 tests that need PostgreSQL (postgres_url).",
            "  Why: ORDERUP_TEST_POSTGRES_URL is set, but does not answer: OperationalError:*",
            "  test_orders.py::test_in_either[[]postgres[]]",
            "  test_orders.py::test_in_postgres",
        ],
        consecutive=False,
    )


def test_what_was_not_run_is_said_by_a_run_of_several_processes(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERUP_TEST_POSTGRES_URL", NOBODY_LISTENS)
    result = run(inner, "-n", "2")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["*!!! NOT RUN !!!*", "2 tests that need PostgreSQL (postgres_url)."])


@pytest.mark.parametrize("processes", [0, 2])
def test_a_missing_service_fails_the_run_where_services_are_required(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    monkeypatch.setenv("ORDERUP_TEST_POSTGRES_URL", NOBODY_LISTENS)
    monkeypatch.setenv("ORDERUP_REQUIRE_SERVICES", "1")
    result = run(inner, "-n", str(processes))
    result.assert_outcomes(passed=1, errors=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*!!! NOT RUN !!!*", "2 tests that need PostgreSQL (postgres_url)."])


def test_a_service_that_no_selected_test_needs_is_not_looked_for(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERUP_TEST_POSTGRES_URL", NOBODY_LISTENS)
    monkeypatch.setenv("ORDERUP_REQUIRE_SERVICES", "1")
    result = run(inner, "-k", "in_memory")
    result.assert_outcomes(passed=1, deselected=2)
    result.stdout.no_fnmatch_line("*NOT RUN*")


def test_a_configured_program_that_does_not_exist_is_missing(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORDERUP_TEST_NGINX", "/nowhere/nginx")
    inner.makepyfile(test_orders="def test_behind_nginx(nginx): assert nginx")
    result = run(inner)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["  Why: ORDERUP_TEST_NGINX=/nowhere/nginx does not exist."])


def test_a_need_that_names_no_service_stops_the_run(inner: pytest.Pytester) -> None:
    inner.makepyfile(
        test_orders="""
        import pytest

        @pytest.mark.needs("postgers_url")
        def test_in_postgres():
            assert True
        """
    )
    result = run(inner)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*needs(postgers_url) names no service*"])


def test_every_process_of_a_run_uses_the_server_that_the_first_one_started(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, redis_program: Path
) -> None:
    """Shown with Redis, the quickest to start: usual_urls is emptied, so that nothing running is found."""
    monkeypatch.setenv("ORDERUP_TEST_REDIS_BIN", str(redis_program))
    inner.makeconftest(
        """
        import dataclasses
        from tests.services.lookup import SERVICES

        pytest_plugins = ["tests.services.plugin"]
        SERVICES["redis_server"] = dataclasses.replace(SERVICES["redis_server"], usual_urls=())
        """
    )
    inner.makepyfile(
        test_orders="""
        import pathlib
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_in_redis(redis_server, redis_url, worker_id, number):
            pathlib.Path(f"{worker_id}.url").write_text(redis_server)
        """
    )
    result = run(inner, "-n", "2", "--dist", "load")
    result.assert_outcomes(passed=4)
    urls = {path.read_text() for path in inner.path.glob("*.url")}
    assert len(urls) == 1
    assert urls != {"redis://127.0.0.1:6379"}
