import asyncio
import re
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orderup.sandbox import Sandbox, serve_sandbox
from orderup.settings import Settings, variable_of
from tests.cli.running import SECRET_KEY, run
from tests.services.ports import free_port
from tests.serving import ServerProcess, sqlite_url

Finding = tuple[str, str]


def examine(folder: Path, *options: object, **settings: str) -> tuple[int, list[Finding]]:
    """The exit code, and what was found: ok, note or wrong, with the words on one line."""
    ports = ("--front-port", free_port(), "--back-port", free_port())
    result = run("doctor", *ports, *options, **{"DATABASE_URL": sqlite_url(folder), **settings})
    assert "Traceback" not in result.output, result.output
    lines = re.sub(r"\n {8}(?=\S)", " ", result.stdout).splitlines()
    found = [match for line in lines if (match := re.fullmatch(r"  (ok|note|wrong) +(.*)", line))]
    findings = [(match[1], match[2]) for match in found]
    wrong = sum(mark == "wrong" for mark, _ in findings)
    assert lines[-1] == {0: "Nothing is wrong.", 1: "1 thing is wrong."}.get(wrong, f"{wrong} things are wrong.")
    assert result.exit_code == bool(wrong)
    return result.exit_code, findings


def only(findings: list[Finding], words: str) -> Finding:
    [found] = [finding for finding in findings if words in finding[1]]
    return found


def test_on_a_new_machine_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    code, findings = examine(tmp_path)
    assert code == 0
    assert only(findings, "yet to be made")[0] == "ok"
    assert only(findings, "free on its disk")[0] == "ok"
    assert only(findings, "Without SECRET_KEY")[0] == "note"
    assert list(tmp_path.iterdir()) == []


def test_it_says_what_is_set_and_what_is_not(tmp_path: Path) -> None:
    _, findings = examine(tmp_path, RETENTION_DAYS="7", TRUSTED_PROXIES="10.0.0.0/8", SECRET_KEY=SECRET_KEY)
    assert ("ok", "RETENTION_DAYS = 7") in findings
    assert ("ok", "TRUSTED_PROXIES = 10.0.0.0/8") in findings
    assert ("ok", "SECRET_KEY = (set)") in findings
    unset = only(findings, "Not set")[1]
    given = {"RETENTION_DAYS", "TRUSTED_PROXIES", "SECRET_KEY", "DATABASE_URL"}
    assert set(re.findall(r"[A-Z_]{3,}", unset)) == {variable_of(name) for name in Settings.model_fields} - given
    assert not [text for _, text in findings if "Without SECRET_KEY" in text]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///{folder}/orders.db", "sqlite:///{folder}/orders.db"),
        ("sqlite:///orders@home.db", "sqlite:///orders@home.db"),
        ("sqlite://", "sqlite://"),
        ("postgresql://ann:secret@127.0.0.1:1/orders?sslmode=disable#x", "postgresql://127.0.0.1:1/orders"),
    ],
)
def test_an_address_that_is_shown_is_the_one_that_was_set(tmp_path: Path, url: str, shown: str) -> None:
    _, findings = examine(tmp_path, DATABASE_URL=url.format(folder=tmp_path))
    assert ("ok", f"DATABASE_URL = {shown.format(folder=tmp_path)}") in findings


def test_it_shows_no_secret() -> None:
    canary = "canary-7f3a"
    secrets = {
        variable_of(name): f"{canary}-of-thirty-two-characters-{name}"
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert len(secrets) >= 9
    settings = {
        **secrets,
        "JIRA_EMAIL": "ann@example.com",
        "JIRA_BASE_URL": "http://127.0.0.1:1",
        "SMTP_USERNAME": "ann",
        "GITHUB_REPOSITORY": "ann/cakes",
        "DATABASE_URL": f"postgresql://ann:{canary}@127.0.0.1:1/orderup?sslpassword={canary}",
        "REDIS_URL": f"redis://:{canary}@127.0.0.1:1/0",
        "RABBITMQ_URL": f"amqp://ann:{canary}@127.0.0.1:1/",
        "SERVER_URL": f"http://ann:{canary}@127.0.0.1:1",
        **dict.fromkeys(("SLACK_BASE_URL", "GITHUB_BASE_URL"), "http://127.0.0.1:1"),
    }
    for more in ({}, {"LEASE_SECONDS": "3"}, {"SECRET_KEY": canary}):
        result = run("doctor", **{**settings, **more})
        assert result.exit_code == 1
        assert canary not in result.output


def test_every_setting_that_is_wrong_is_told(tmp_path: Path) -> None:
    code, findings = examine(tmp_path, LEASE_SECONDS="3", SECRET_KEY="short")
    assert code == 1
    assert only(findings, "LEASE_SECONDS=3")[0] == "wrong"
    assert only(findings, "SECRET_KEY has 5 characters")[0] == "wrong"


@pytest.mark.parametrize("url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.needs("postgres_url"))])
def test_it_says_which_tables_there_are(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> None:
    url = sqlite_url(tmp_path) if url == "sqlite" else request.getfixturevalue("postgres_database")
    _, findings = examine(tmp_path, DATABASE_URL=url)
    assert only(findings, "tables of orderup: to be made")[0] == "ok"
    run("migrate", DATABASE_URL=url)
    code, findings = examine(tmp_path, DATABASE_URL=url)
    assert code == 0
    for name in ("orderup", "pizza", "mealbox"):
        assert re.search(rf"tables of {name}: version \S+$", only(findings, f"tables of {name}")[1])
    assert re.search(
        r"^(SQLite|PostgreSQL) [\d.]+, \S+, [\d.]+ \w+; it can be written$", findings_of_database(findings)
    )


def findings_of_database(findings: list[Finding]) -> str:
    return only(findings, "it can be written")[1]


@pytest.mark.needs("postgres_url")
def test_it_compares_this_machines_clock_with_the_databases(postgres_database: str, tmp_path: Path) -> None:
    _, findings = examine(tmp_path, DATABASE_URL=postgres_database)
    assert re.search(r"clock and the database's are 0\.\d s apart", only(findings, " s apart")[1])


def test_tables_of_a_later_release_are_wrong_and_of_an_earlier_one_are_noted(tmp_path: Path) -> None:
    run("migrate", DATABASE_URL=sqlite_url(tmp_path))
    with sqlite3.connect(tmp_path / "orderup.db") as database:
        database.execute("update orderup_version set version_num = '9999'")
        database.execute("update pizza_version set version_num = 'tables-of-old'")
    code, findings = examine(tmp_path)
    assert code == 1
    assert only(findings, "version 9999, of a later release")[0] == "wrong"
    assert only(findings, "tables of pizza: version tables-of-old; a server that starts")[0] == "note"


def test_a_newest_operation_from_the_future_says_that_a_clock_is_wrong(tmp_path: Path) -> None:
    run("migrate", DATABASE_URL=sqlite_url(tmp_path))
    with sqlite3.connect(tmp_path / "orderup.db") as database:
        values = "(1, 'pizza', 'running', 1, 0, 0, ?, 'request')"
        columns = "id, shop, status, version, open, moving, placed_at, source"
        database.execute(f"insert into operations ({columns}) values {values}", (4_102_444_800_000_000,))
    code, findings = examine(tmp_path)
    assert code == 1
    assert only(findings, "in the future")[0] == "wrong"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://postgres@127.0.0.1:1/orderup", "does not answer"),
        ("sqlite:////dev/null/orderup.db", "/dev/null is no folder"),
        ("sqlite:////", "is a folder"),
    ],
)
def test_a_database_that_does_not_answer_is_wrong(tmp_path: Path, url: str, words: str) -> None:
    code, findings = examine(tmp_path, DATABASE_URL=url)
    assert code == 1
    assert ("wrong", True) in [(mark, words in text) for mark, text in findings]


def test_a_file_of_another_kind_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "orderup.db").write_text("my diary\n" * 1000)
    code, findings = examine(tmp_path)
    assert code == 1
    assert only(findings, "is no database of ours")[0] == "wrong"


def test_a_file_that_somebody_else_is_writing_is_none_the_worse(tmp_path: Path) -> None:
    """A lock that is held for a moment only is waited for."""
    run("migrate", DATABASE_URL=sqlite_url(tmp_path))
    with sqlite3.connect(tmp_path / "orderup.db") as database:
        database.execute("pragma wal_checkpoint")
        assert examine(tmp_path)[0] == 0


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Something that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", free_port())) as listener:
        yield listener


def test_a_port_that_somebody_else_has_is_wrong(tmp_path: Path, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    code, findings = examine(tmp_path, "--front-port", port)
    assert code == 1
    assert only(findings, f"{port}: ") == (
        "wrong",
        f"{port}: Address already in use; choose another with --front-port or --back-port",
    )


def test_a_server_of_ours_on_its_port_is_well(tmp_path: Path) -> None:
    with ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path)) as server:
        server.start()
        options = ("--front-port", server.front_port, "--back-port", server.back_port)
        code, findings = examine(tmp_path, *options, SERVER_URL=server.back)
    assert code == 0
    assert ("ok", f"{server.front_port}: an orderup server answers there") in findings
    assert ("ok", f"SERVER_URL {server.back} answers") in findings


@pytest.mark.needs("redis_server", "rabbitmq_url")
def test_brokers_that_answer_are_well(tmp_path: Path, redis_url: str, rabbitmq_url: str) -> None:
    code, findings = examine(tmp_path, REDIS_URL=redis_url, RABBITMQ_URL=rabbitmq_url, CELERY_BROKER_URL=redis_url)
    assert code == 0
    assert only(findings, "REDIS_URL redis://127.0.0.1")[1].endswith("answers: Redis, or what speaks like it")
    assert only(findings, "RABBITMQ_URL amqp://127.0.0.1")[1].endswith("answers: RabbitMQ, or what speaks like it")


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"REDIS_URL": "redis://127.0.0.1:1"}, "REDIS_URL"),
        ({"REDIS_HOST": "no-such-host.invalid"}, "REDIS_URL"),
        ({"RABBITMQ_URL": "amqp://guest:guest@127.0.0.1:1/"}, "RABBITMQ_URL"),
        ({"CELERY_BROKER_URL": "redis://127.0.0.1:1"}, "CELERY_BROKER_URL"),
    ],
)
def test_a_broker_that_does_not_answer_is_wrong(tmp_path: Path, settings: dict[str, str], name: str) -> None:
    code, findings = examine(tmp_path, **settings)
    assert code == 1
    assert only(findings, "does not answer")[0] == "wrong"
    assert name in only(findings, "does not answer")[1]


@pytest.mark.needs("redis_server", "rabbitmq_url")
def test_a_broker_of_another_kind_is_wrong(tmp_path: Path, redis_url: str, rabbitmq_url: str) -> None:
    swapped = {"REDIS_URL": rabbitmq_url.replace("amqp", "redis"), "RABBITMQ_URL": redis_url.replace("redis", "amqp")}
    code, findings = examine(tmp_path, **swapped)
    assert code == 1
    assert [mark for mark, text in findings if "does not answer" in text] == ["wrong", "wrong"]


def test_a_web_server_that_does_not_answer_is_noted(tmp_path: Path) -> None:
    code, findings = examine(tmp_path, PUBLIC_URL="http://127.0.0.1:1")
    assert code == 0
    assert only(findings, "PUBLIC_URL http://127.0.0.1:1 does not answer now")[0] == "note"


def test_of_a_third_party_that_is_not_set_it_says_that_the_sandbox_stands_in(tmp_path: Path) -> None:
    code, findings = examine(tmp_path)
    assert code == 0
    for name in ("PRODUCT_SERVICE_URL", "USER_SERVICE_URL"):
        assert ("note", f"{name} is not set: orderup serve lets the sandbox stand in") in findings


async def test_of_a_third_party_that_is_set_it_says_whether_it_answers(tmp_path: Path) -> None:
    async with serve_sandbox() as sandbox:
        url = f"{sandbox.base_url}/mealbox"
        services = {"USER_SERVICE_URL": url, "PRODUCT_SERVICE_URL": "http://127.0.0.1:1"}
        code, findings = await asyncio.to_thread(examine, tmp_path, **services)
    assert code == 0
    assert ("ok", f"USER_SERVICE_URL {url} answers") in findings
    assert only(findings, "PRODUCT_SERVICE_URL http://127.0.0.1:1 does not answer now")[0] == "note"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox() as sandbox:
        yield sandbox


def credentials(sandbox: Sandbox) -> dict[str, str]:
    """Of every third party, for its stand-in."""
    url = sandbox.base_url
    return {
        "JIRA_BASE_URL": f"{url}/jira",
        "JIRA_EMAIL": "ann@example.com",
        "JIRA_API_TOKEN": "a-token",
        "SLACK_BASE_URL": f"{url}/slack/api",
        "SLACK_BOT_TOKEN": "xoxb-token",
        "SMTP_HOST": sandbox.smtp.host,
        "SMTP_PORT": str(sandbox.smtp.port),
        "SMTP_SECURITY": "none",
        "GOOGLE_TOKEN_URL": f"{url}/google/token",
        "GOOGLE_DRIVE_URL": f"{url}/google/drive/v3",
        "GOOGLE_DOCS_URL": f"{url}/google/docs/v1",
        "GITHUB_BASE_URL": f"{url}/github",
        "GITHUB_TOKEN": "a-token",
        "GITHUB_REPOSITORY": "ann/cakes",
        "DSP_URL": f"{url}/dsp",
    }


async def test_third_parties_whose_credentials_are_set_are_asked_who_we_are_there(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    code, findings = await asyncio.to_thread(examine, tmp_path, **credentials(sandbox))
    assert code == 0
    assert ("ok", "Jira: sees the project BAKE, Bake") in findings
    assert ("ok", "GitHub: may invite to ann/cakes") in findings
    assert only(findings, "Slack: ")[0] == "ok"
    assert only(findings, "Mail: ")[0] == "ok"
    assert only(findings, "Google Drive: ")[0] == "ok"
    assert ("ok", "Advertising platform: it answers") in findings
    for party in (sandbox.jira, sandbox.slack, sandbox.github, sandbox.dsp):
        assert party.asked.total() == 1
    assert not [text for _, text in findings if re.search("(TOKEN|HOST|FILE) is not set", text)]


async def test_what_each_third_party_says_is_wrong_is_told(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.jira.switch(status=401)
    sandbox.slack.switch(status=503)
    sandbox.github.is_admin = False
    sandbox.dsp.switch(status=500)
    code, findings = await asyncio.to_thread(examine, tmp_path, **credentials(sandbox))
    assert code == 1
    assert ("wrong", "Jira: it does not take these credentials: renew them") in findings
    assert only(findings, "Slack: ") == ("wrong", "Slack: Slack answered 503")
    assert only(findings, "Advertising platform: ")[0] == "wrong"
    mark, words = only(findings, "GitHub: ")
    assert (mark, "Administration, write" in words) == ("wrong", True)
    assert only(findings, "Mail: ")[0] == "ok"


async def test_a_third_party_that_hangs_is_not_waited_for_and_holds_up_no_other(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    sandbox.github.switch(body="hang")
    sandbox.jira.switch(body="hang")
    _, findings = await asyncio.to_thread(examine, tmp_path, **credentials(sandbox))
    for name in ("Jira", "GitHub"):
        assert ("wrong", f"{name}: it did not answer within 5 s") in findings
    assert only(findings, "Slack: ")[0] == "ok"


def test_a_shop_that_cannot_be_loaded_is_wrong_and_the_rest_is_told_all_the_same(tmp_path: Path) -> None:
    code, findings = examine(tmp_path, "--shop", "tea.house:shop")
    assert code == 1
    assert only(findings, "tea.house:shop")[0] == "wrong"
    assert only(findings, "it can be written")[0] == "ok"
