"""Who we are at Google: a token for a signed statement, kept, renewed, and given up when it is not taken."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from prometheus_client import CollectorRegistry

from orderup.errors import Misconfigured, OutcomeUnknown, Resting, UpstreamFailed, UpstreamRefused
from orderup.integrations.breaker import BreakerState
from orderup.integrations.drive import Drive, open_drive
from orderup.integrations.google import EARLY_SECONDS, OVERUSED_REST, STATEMENT_SECONDS, ServiceAccount, throw_away_key
from orderup.integrations.upstream import UpstreamMetrics
from orderup.sandbox import Sandbox, serve_sandbox
from orderup.sandbox.google import Exchange
from tests.integrations.google_account import settings_for


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(scale=1_000) as sandbox:
        yield sandbox


@pytest.fixture
async def drive(sandbox: Sandbox) -> AsyncIterator[Drive]:
    async with open_drive(settings_for(sandbox), UpstreamMetrics(CollectorRegistry())) as drive:
        yield drive


@pytest.fixture
def account(drive: Drive) -> ServiceAccount:
    return drive.files.account


def statement_in(exchange: Exchange) -> str:
    return exchange.asked.form()["assertion"]


async def test_we_say_who_we_are_and_sign_it(sandbox: Sandbox, account: ServiceAccount) -> None:
    public = load_pem_private_key(account.key.private_key.encode(), None).public_key()
    sandbox.drive.trusted_key = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert await account.token() in sandbox.drive.tokens
    [exchange] = sandbox.drive.exchanges
    statement = statement_in(exchange)
    assert jwt.get_unverified_header(statement) == {"alg": "RS256", "typ": "JWT", "kid": "sandbox"}
    claims = jwt.decode(statement, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == STATEMENT_SECONDS
    assert (claims["iss"], claims["aud"]) == (account.key.client_email, f"{sandbox.base_url}/google/token")
    assert claims["scope"] == "https://www.googleapis.com/auth/drive"


async def test_a_statement_signed_by_somebody_else_is_not_taken(sandbox: Sandbox, account: ServiceAccount) -> None:
    stranger = load_pem_private_key(throw_away_key("http://x").private_key.encode(), None).public_key()
    sandbox.drive.trusted_key = stranger.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    for _ in range(3):
        with pytest.raises(Resting):
            await account.token()
    assert sandbox.drive.asked.total() == 1
    assert "invalid_grant" in str(account.upstream.last_error)
    assert account.upstream.breaker.state is BreakerState.OPEN


async def test_a_clock_that_is_wrong_is_said_to_be(sandbox: Sandbox, account: ServiceAccount) -> None:
    account.now = lambda: 1_700_000_000.0
    with pytest.raises(Resting):
        await account.token()
    assert "clock" in str(account.upstream.last_error)
    assert sandbox.drive.asked["sign_in"] == 1


async def test_many_who_ask_at_once_share_one_token(sandbox: Sandbox, account: ServiceAccount) -> None:
    tokens = await asyncio.gather(*(account.token() for _ in range(20)))
    assert len(set(tokens)) == 1
    assert sandbox.drive.asked["sign_in"] == 1


async def test_a_token_is_renewed_some_minutes_before_its_end(sandbox: Sandbox, account: ServiceAccount) -> None:
    began = account.now() - 3599 + EARLY_SECONDS  # so that neither statement is of another time than now
    account.now = lambda: began
    first = await account.token()
    account.now = lambda: began + 3599 - EARLY_SECONDS - 1
    assert await account.token() == first
    account.now = lambda: began + 3599 - EARLY_SECONDS
    assert await account.token() != first
    assert sandbox.drive.asked["sign_in"] == 2


async def test_a_token_that_is_not_taken_any_more_is_renewed_once_and_nobody_notices(
    sandbox: Sandbox, drive: Drive
) -> None:
    folder = await drive.create_folder("Orders")
    sandbox.drive.revoke_tokens()
    await drive.create_document(name="A", folder_id=folder, key="a")
    assert len(sandbox.drive.documents) == 1
    assert sandbox.drive.asked["sign_in"] == 2


async def test_who_is_not_known_with_a_new_token_either_stops(sandbox: Sandbox, drive: Drive) -> None:
    sandbox.drive.switch(route="find_files", status=401)
    for _ in range(3):
        with pytest.raises(Resting):
            await drive.find_folder("Orders")
    assert sandbox.drive.asked["find_files"] == 2
    assert drive.files.upstream.breaker.state is BreakerState.OPEN


async def test_no_token_for_now_means_that_nothing_was_sent(sandbox: Sandbox, drive: Drive) -> None:
    sandbox.drive.switch(route="sign_in", status=503, times=1)
    with pytest.raises(UpstreamFailed) as failed:
        await drive.create_folder("Orders")
    assert not isinstance(failed.value, OutcomeUnknown)
    assert not sandbox.drive.asked["create_file"]
    await drive.create_folder("Orders")


# what it says no with


async def test_too_much_is_told_by_403_as_well_as_by_429(sandbox: Sandbox, drive: Drive) -> None:
    sandbox.drive.switch(route="create_file", status=403, retry_after_seconds=7, times=1)
    with pytest.raises(UpstreamFailed) as failed:
        await drive.create_folder("Orders")
    assert failed.value.retry_after == timedelta(seconds=7)
    assert not isinstance(failed.value, OutcomeUnknown)
    sandbox.drive.switch(route="create_file", status=429, times=1)
    with pytest.raises(UpstreamFailed) as failed:
        await drive.create_folder("Orders")
    assert failed.value.retry_after == OVERUSED_REST


async def test_any_other_403_is_a_no_for_good_with_googles_words(sandbox: Sandbox, drive: Drive) -> None:
    sandbox.drive.switch(route="create_file", status=403)
    with pytest.raises(UpstreamRefused, match="The sandbox is switched to answer 403"):
        await drive.create_folder("Orders")


# from a file


async def test_a_key_file_is_what_we_sign_with(sandbox: Sandbox, tmp_path: Path) -> None:
    key = throw_away_key("https://oauth2.googleapis.com/token")
    path = tmp_path / "key.json"
    file = {
        "type": "service_account",
        "project_id": "shop",
        "private_key_id": "abc",
        "private_key": key.private_key,
        "client_email": "shop@shop.iam.gserviceaccount.com",
        "token_uri": key.token_uri,
    }
    path.write_text(json.dumps(file))
    settings = settings_for(sandbox, google_credentials_file=path)
    async with open_drive(settings, UpstreamMetrics(CollectorRegistry())) as drive:
        await drive.files.account.token()
    claims: dict[str, Any] = jwt.decode(statement_in(sandbox.drive.exchanges[0]), options={"verify_signature": False})
    assert (claims["iss"], claims["aud"]) == ("shop@shop.iam.gserviceaccount.com", key.token_uri)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot be read"),
        ("{", "not a service account's key file"),
        ('{"installed": {"client_id": "x"}}', "not a service account's key file"),
        ('{"client_email": "a@b", "token_uri": "https://x", "private_key": "secret words"}', "no RSA key"),
    ],
)
async def test_a_key_file_that_is_none_is_said_to_be_without_its_words(
    sandbox: Sandbox, tmp_path: Path, content: str | None, match: str
) -> None:
    path = tmp_path / "key.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(Misconfigured, match=match) as wrong:
        async with open_drive(
            settings_for(sandbox, google_credentials_file=path), UpstreamMetrics(CollectorRegistry())
        ):
            pass
    assert "secret words" not in str(wrong.value)
