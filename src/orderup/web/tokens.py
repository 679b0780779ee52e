"""Who a caller is: roles, and the signed tokens that carry them.

A token is a JWT signed with SECRET_KEY (HS256). What it says is trusted until it expires or its `jti` is revoked.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import jwt
import msgspec
from pydantic import SecretStr

from orderup.errors import Invalid, Unauthenticated
from orderup.model.task import LONGEST_REGION, is_region

ALGORITHM = "HS256"
ISSUER = "orderup"
USUAL_LIFE = timedelta(days=30)
LONGEST_LIFE = timedelta(days=3650)
LONGEST_TOKEN = 4096


class Role(StrEnum):
    CUSTOMER = "customer"
    WORKER = "worker"
    STAFF = "staff"
    ADMIN = "admin"


# Whoever may do a role's work besides the role itself.
INCLUDED: Mapping[Role, frozenset[Role]] = MappingProxyType(
    {
        Role.CUSTOMER: frozenset({Role.CUSTOMER}),
        Role.WORKER: frozenset({Role.WORKER}),
        Role.STAFF: frozenset({Role.STAFF}),
        Role.ADMIN: frozenset({Role.ADMIN, Role.STAFF}),
    }
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. subject: None for nobody in particular. shop, region: the only one to act in; None: any."""

    roles: frozenset[Role] = frozenset()
    subject: str | None = None
    shop: str | None = None
    region: str | None = None
    jti: str | None = None

    def has(self, *roles: Role) -> bool:
        """At least one of them."""
        return not self.roles.isdisjoint(roles)

    def may_enter(self, shop: str) -> bool:
        return self.shop is None or self.shop == shop


NOBODY = Caller()
LOCAL_CALLER = Caller(roles=frozenset(Role), subject="local")
ANY_WORKER = Caller(roles=INCLUDED[Role.WORKER], subject="worker")


@dataclass(frozen=True, slots=True)
class MintedToken:
    text: str
    jti: str
    expires_at: datetime


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    role: Role
    jti: str
    exp: int
    shop: str | None = None
    region: str | None = None


def mint_token(
    secret: SecretStr,
    role: Role,
    subject: str,
    *,
    now: datetime,
    shop: str | None = None,
    region: str | None = None,
    life: timedelta = USUAL_LIFE,
) -> MintedToken:
    """For `orderup token`. Raises Invalid for a name that is empty or longer than 100 characters, a region that none is
    called, or a life < 0."""
    if not re.fullmatch(r"[^\x00-\x1f\x7f]{1,100}", subject):
        raise Invalid("A token's name has 1 to 100 characters and no line ends.", field="name")
    if region is not None and not is_region(region):
        raise Invalid(
            f"A region has 1 to {LONGEST_REGION} ASCII letters, digits or any of _ . : @ / -.", field="region"
        )
    if not timedelta() < life <= LONGEST_LIFE:
        raise Invalid(f"A token lives from 1 to {LONGEST_LIFE.days} days.", field="days")
    jti, expires_at = secrets.token_urlsafe(16), (now + life).replace(microsecond=0)
    claims = {"iss": ISSUER, "sub": subject, "role": role.value, "jti": jti, "iat": int(now.timestamp())}
    claims["exp"] = int(expires_at.timestamp())
    claims |= {name: value for name, value in {"shop": shop, "region": region}.items() if value is not None}
    return MintedToken(jwt.encode(claims, secret.get_secret_value(), ALGORITHM), jti, expires_at)


def read_token(text: str, *, secret: SecretStr, now: datetime) -> Caller:
    """Whom a token speaks for. Raises Unauthenticated if it is not ours, changed on the way, or expired.

    Whether it was revoked is for its reader to ask: that takes the database.
    """
    claims = _verify(text, secret.get_secret_value())
    expires_at = datetime.fromtimestamp(claims.exp, UTC)
    if expires_at <= now:
        raise Unauthenticated(
            f"This token expired at {expires_at:%Y-%m-%d %H:%M:%SZ}. Ask for a new one (orderup token {claims.role})."
        )
    return Caller(
        roles=INCLUDED[claims.role], subject=claims.sub, shop=claims.shop, region=claims.region, jti=claims.jti
    )


# A worker sends the same token thousands of times; only good ones are remembered.
@lru_cache(maxsize=4096)
def _verify(text: str, secret: str) -> _Claims:
    # The signature first: nothing in an unsigned token deserves an answer of its own. PyJWT's own look at `exp` is left
    # out, it would read the machine's clock.
    try:
        payload: dict[str, Any] = jwt.decode(
            text if len(text) <= LONGEST_TOKEN else "",
            secret,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
        )
        claims = msgspec.convert(payload, _Claims)
        datetime.fromtimestamp(claims.exp, UTC)
    # RecursionError: a header of nothing but brackets, which is parsed before its signature can be looked at.
    except (jwt.InvalidTokenError, ValueError, OverflowError, OSError, RecursionError) as error:
        raise Unauthenticated(
            "This token is not valid here: it was changed, or signed with another SECRET_KEY. Ask for a new one."
        ) from error
    return claims


def same_secret(given: str, expected: SecretStr) -> bool:
    """In constant time, whatever their lengths."""
    return hmac.compare_digest(_digest(given), _digest(expected.get_secret_value()))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
