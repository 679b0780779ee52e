from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import jwt
import pytest
from pydantic import SecretStr

from orderup.web.tokens import Role, mint_token, read_token
from tests.cli.running import SECRET_KEY, assert_refused, run
from tests.services.waiting import PATIENCE_SECONDS
from tests.serving import ServerProcess, sqlite_url

SECRET = SecretStr(SECRET_KEY)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("tokens")
    environment = {"SECRET_KEY": SECRET_KEY}
    with ServerProcess("pizza", folder=folder, database_url=sqlite_url(folder), environment=environment) as server:
        yield server.start()


def database_of(server: ServerProcess) -> dict[str, str]:
    return {"DATABASE_URL": server.environment["DATABASE_URL"], "SECRET_KEY": SECRET_KEY}


def status(server: ServerProcess, token: str) -> int:
    return httpx2.get(
        f"{server.back}/api/operations", headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_SECONDS
    ).status_code


def mint(*arguments: object) -> str:
    result = run("token", *arguments, SECRET_KEY=SECRET_KEY)
    assert result.exit_code == 0, result.output
    [token] = result.stdout.splitlines()
    return token


@pytest.mark.parametrize("role", Role)
def test_a_token_is_the_only_thing_on_standard_output(role: Role) -> None:
    caller = read_token(mint(role, "ann"), secret=SECRET, now=datetime.now(UTC))
    assert (caller.subject, caller.shop, caller.region) == ("ann", None, None)
    assert caller.has(role)


def test_what_there_is_to_know_of_it_is_on_standard_error() -> None:
    result = run("token", "worker", "oven 7", "--shop", "pizza", "--region", "eu-west-3", SECRET_KEY=SECRET_KEY)
    caller = read_token(result.stdout.strip(), secret=SECRET, now=datetime.now(UTC))
    assert (caller.subject, caller.shop, caller.region) == ("oven 7", "pizza", "eu-west-3")
    for word in ("oven 7", "worker", "pizza", "eu-west-3", f"--revoke={caller.jti}"):
        assert word in result.stderr


@pytest.mark.parametrize(("options", "days"), [((), 30), (("--days", 2), 2)])
def test_it_counts_for_as_many_days_as_asked(options: tuple[object, ...], days: int) -> None:
    claims = jwt.decode(mint("staff", "ann", *options), SECRET_KEY, algorithms=["HS256"])
    assert claims["exp"] - claims["iat"] == days * 86_400


def test_a_running_server_takes_it_and_once_revoked_takes_it_no_more(server: ServerProcess) -> None:
    one, other = mint("staff", "ann"), mint("staff", "ann")
    assert (status(server, one), status(server, other)) == (200, 200)
    result = run("token", "--revoke", one, **database_of(server))
    assert result.exit_code == 0, result.output
    assert "counts no more" in result.stdout
    assert (status(server, one), status(server, other)) == (401, 200)
    jti = jwt.decode(other, options={"verify_signature": False})["jti"]
    assert run("token", f"--revoke={jti}", **database_of(server)).exit_code == 0
    assert status(server, other) == 401
    assert "was revoked before" in run("token", f"--revoke={jti}", **database_of(server)).stdout


def test_a_token_that_has_expired_needs_no_revoking(tmp_path: Path) -> None:
    old = mint_token(SECRET, Role.STAFF, "ann", now=datetime.now(UTC) - timedelta(days=31)).text
    result = run("token", "--revoke", old, SECRET_KEY=SECRET_KEY, DATABASE_URL=sqlite_url(tmp_path))
    assert result.exit_code == 0
    assert "expired" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "orderup token staff ann"),
        (("staff",), "orderup token staff ann"),
        (("staff", ""), "1 to 100 characters"),
        (("staff", "a\nb"), "1 to 100 characters"),
        (("staff", "ann", "--region", "eu-west-3"), "Only workers"),
        (("worker", "ann", "--region", "Île-de-France"), "A region has 1 to 100 ASCII letters"),
        (("staff", "ann", "--revoke", "x"), "leave ROLE and NAME out"),
        (("--revoke", "x y"), "neither a token nor the id of one"),
        (("--revoke", "a.b.c"), "does not count here anyway"),
        (("--revoke", mint_token(SecretStr("x" * 32), Role.STAFF, "eve", now=datetime.now(UTC)).text), "SECRET_KEY"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_sentence(arguments: tuple[str, ...], words: str) -> None:
    assert_refused(run("token", *arguments, SECRET_KEY=SECRET_KEY), words)


@pytest.mark.parametrize(
    "arguments", [("chef", "ann"), ("staff", "ann", "--days", "0"), ("staff", "ann", "--days", "x")]
)
def test_a_role_or_time_that_there_is_not_is_refused(arguments: tuple[str, ...]) -> None:
    result = run("token", *arguments, SECRET_KEY=SECRET_KEY)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Invalid value" in result.stderr


def test_without_a_secret_key_there_are_no_tokens() -> None:
    assert_refused(run("token", "staff", "ann"), "SECRET_KEY is not set", "secrets.token_urlsafe(32)")
