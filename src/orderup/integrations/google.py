"""Google's APIs, as a service account: a token, got for a signed statement of who we are, kept until shortly before its
end, and calls that carry it.

Too much at once is not only 429 there, but also 403 with a reason of its own; any other 403 is a no.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from orderup.errors import Misconfigured
from orderup.integrations.upstream import LARGEST_ANSWER_BYTES, Reply, Upstream, rest_of

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
STATEMENT_SECONDS, EARLY_SECONDS = 3600, 300
# Who asked for too much and was not told when to come back.
OVERUSED_REST = timedelta(seconds=5)
OVERUSED = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded"})
UNKNOWN_TO_IT = frozenset({"invalid_client", "invalid_grant", "invalid_scope", "unauthorized_client"})


class Key(msgspec.Struct):
    """A service account's, as its file has it."""

    client_email: str
    private_key: str
    token_uri: str
    private_key_id: str = ""


class Token(msgspec.Struct):
    access_token: str
    expires_in: int


class TokenRefused(msgspec.Struct):
    error: str = ""
    error_description: str = ""


class Reason(msgspec.Struct):
    reason: str = ""


class Problem(msgspec.Struct):
    message: str = ""
    status: str = ""
    errors: list[Reason] = msgspec.field(default_factory=list)


class Failure(msgspec.Struct):
    error: Problem


@dataclass(frozen=True, slots=True)
class Held:
    """`until`: in seconds since 1970, as the clock here has it."""

    token: str
    until: float


class ServiceAccount:
    """`upstream`: where tokens come from. scope: what they are good for. now: seconds since 1970."""

    def __init__(self, key: Key, upstream: Upstream, *, scope: str, now: Callable[[], float] = time.time) -> None:
        self.key, self.upstream, self.scope, self.now = key, upstream, scope, now
        self._held: Held | None = None
        self._asking = asyncio.Lock()

    async def token(self) -> str:
        """Raises Resting (also if Google does not know us), UpstreamFailed, UpstreamRefused."""
        async with self._asking:
            if self._held is None or self.now() >= self._held.until:
                self._held = await self._ask()
            return self._held.token

    def forget(self, token: str) -> None:
        """It is not taken any more; unless another one is held already."""
        if self._held is not None and self._held.token == token:
            self._held = None

    async def _ask(self) -> Held:
        asked_at = self.now()
        form = {"grant_type": GRANT, "assertion": self._statement(int(asked_at))}
        reply = await self.upstream.call(
            "POST", "", about="token", form=form, reads=lambda reply: reply.read(Token), is_repeatable=True
        )
        if not reply.is_success:
            self._refuse(reply)
        token = reply.read(Token)
        assert token is not None
        return Held(token.access_token, asked_at + max(0, token.expires_in - EARLY_SECONDS))

    def _refuse(self, reply: Reply) -> NoReturn:
        refused = reply.read(TokenRefused) or TokenRefused()
        if refused.error in UNKNOWN_TO_IT:
            resting = self.upstream.unknown_to_it()
            why = f"{refused.error} {refused.error_description}".strip()
            self.upstream.last_error = f"does not take our key ({why}): renew it, or set this machine's clock"
            raise resting
        self.upstream.refuse(reply)

    def _statement(self, at: int) -> str:
        claims = {
            "iss": self.key.client_email,
            "scope": self.scope,
            "aud": self.key.token_uri,
            "iat": at,
            "exp": at + STATEMENT_SECONDS,
        }
        headers = {"kid": self.key.private_key_id} if self.key.private_key_id else None
        return jwt.encode(claims, self.key.private_key, algorithm="RS256", headers=headers)


class Api:
    """One of Google's services, asked as `account`."""

    def __init__(self, upstream: Upstream, account: ServiceAccount) -> None:
        self.upstream, self.account = upstream, account

    async def call(
        self,
        method: str,
        path: str,
        *,
        about: str,
        kind: type[Any],
        json: Any = None,
        query: Mapping[str, str] | None = None,
        is_repeatable: bool | None = None,
        largest: int = LARGEST_ANSWER_BYTES,
    ) -> Reply:
        """As `Upstream.call`; a success can be read as `kind`. A token that is not taken is renewed, once."""

        async def attempt(token: str, *, judges: Collection[int]) -> Reply:
            return await self.upstream.call(
                method,
                path,
                about=about,
                json=json,
                query=query,
                headers={"Authorization": f"Bearer {token}"},
                reads=lambda reply: reply.read(kind),
                judges=judges,
                is_repeatable=is_repeatable,
                largest=largest,
            )

        token = await self.account.token()
        reply = await attempt(token, judges={HTTPStatus.UNAUTHORIZED})
        if reply.status != HTTPStatus.UNAUTHORIZED:
            return reply
        self.account.forget(token)
        return await attempt(await self.account.token(), judges=())

    def refuse(self, reply: Reply) -> NoReturn:
        """With Google's own words."""
        problem = problem_of(reply)
        self.upstream.refuse(reply, because=problem.message or None)


def problem_of(reply: Reply) -> Problem:
    failure = reply.read(Failure)
    return Problem() if failure is None else failure.error


def rest_of_google(reply: Reply) -> timedelta | None:
    is_limited = reply.status == HTTPStatus.TOO_MANY_REQUESTS or (
        reply.status == HTTPStatus.FORBIDDEN and any(each.reason in OVERUSED for each in problem_of(reply).errors)
    )
    if not is_limited:
        return rest_of(reply)
    return OVERUSED_REST if "retry-after" not in reply.headers else rest_of(Reply(429, reply.headers, b""))


def read_key(path: Path) -> Key:
    """Raises Misconfigured. It reads a file."""
    try:
        key = msgspec.json.decode(path.read_bytes(), type=Key)
    except OSError as error:
        raise Misconfigured(f"GOOGLE_CREDENTIALS_FILE={path} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"GOOGLE_CREDENTIALS_FILE={path} is not a service account's key file.") from error
    with suppress(ValueError, TypeError, jwt.InvalidKeyError):
        jwt.encode({}, key.private_key, algorithm="RS256")
        return key
    raise Misconfigured(f"GOOGLE_CREDENTIALS_FILE={path} has no RSA key in private_key.")


def throw_away_key(token_url: str) -> Key:
    """For the sandbox, which knows nobody's key. It takes a moment of thinking."""
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Key("orderup@sandbox.example", private, token_url, "sandbox")
