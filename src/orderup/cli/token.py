"""`orderup token`: mints the signed tokens by which callers are known, and revokes them."""

import asyncio
import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from orderup.cli.app import command
from orderup.errors import Invalid, Misconfigured
from orderup.web.tokens import LONGEST_LIFE, USUAL_LIFE, Role

if TYPE_CHECKING:
    from pydantic import SecretStr

    from orderup.settings import Settings

LONGEST_DAYS = LONGEST_LIFE.days
JTI = re.compile(r"[\w-]{1,100}", re.ASCII)


@command()
def token(
    role: Annotated[Role | None, typer.Argument(help="What its bearer may do.")] = None,
    name: Annotated[str | None, typer.Argument(help="Who its bearer is: shown where something was decided.")] = None,
    shop: Annotated[str | None, typer.Option(help="For this shop only.")] = None,
    region: Annotated[str | None, typer.Option(help="For a worker: for tasks of this region only.")] = None,
    days: Annotated[int, typer.Option(min=1, max=LONGEST_DAYS, help="How long it counts.")] = USUAL_LIFE.days,
    revoke: Annotated[
        str | None, typer.Option(metavar="JTI_OR_TOKEN", help="Let this one, or the one of this id, count no more.")
    ] = None,
) -> None:
    """Mint a token for a customer, a worker, staff or an admin, or revoke one.

    The token alone goes to standard output, what there is to know about it to standard error.
    """
    from orderup.settings import Settings

    settings = Settings.from_environment(os.environ)
    if settings.secret_key is None:
        raise Misconfigured(
            "SECRET_KEY is not set. Without it there are no tokens: every caller on this machine may do everything. "
            'Set it to what this prints: python3 -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    if revoke is not None:
        if role is not None or name is not None:
            raise Invalid("--revoke takes away; leave ROLE and NAME out.")
        typer.echo(asyncio.run(_revoke(settings, *_read(revoke, settings.secret_key))))
    elif role is None or name is None:
        raise Invalid("Say for whom, such as: orderup token staff ann")
    else:
        _mint(settings.secret_key, role, name, shop=shop, region=region, life=timedelta(days=days))


def _mint(secret: "SecretStr", role: Role, name: str, *, shop: str | None, region: str | None, life: timedelta) -> None:
    from orderup.web.tokens import mint_token

    if region is not None and role is not Role.WORKER:
        raise Invalid(f"Only workers are in a region; a token of {role} takes no --region.")
    minted = mint_token(secret, role, name, shop=shop, region=region, life=life, now=datetime.now(UTC))
    where = "".join(f", {what} {value} only" for what, value in (("shop", shop), ("region", region)) if value)
    typer.echo(
        f"Token of {name}, {role}{where}, until {minted.expires_at:%Y-%m-%d %H:%M:%SZ}.\n"
        f"It opens whatever they may do: send it like a password. To end it: orderup token --revoke={minted.jti}",
        err=True,
    )
    typer.echo(minted.text)


def _read(text: str, secret: "SecretStr") -> tuple[str, datetime | None]:
    """The id of a token that is to be revoked, and until when it counts, if that can be known. Raises Invalid."""
    import jwt

    if "." not in text:
        if not JTI.fullmatch(text):
            raise Invalid("That is neither a token nor the id of one. Give the token, or the id that minting it told.")
        return text, None
    try:
        claims = jwt.decode(text, secret.get_secret_value(), algorithms=["HS256"], options={"verify_exp": False})
        return str(claims["jti"]), datetime.fromtimestamp(claims["exp"], UTC)
    except (jwt.InvalidTokenError, KeyError, ValueError, OverflowError) as error:
        raise Invalid(
            "That token does not count here anyway: it was changed, or signed with another SECRET_KEY."
        ) from error


async def _revoke(settings: "Settings", jti: str, expires_at: datetime | None) -> str:
    from orderup.db.connect import open_database
    from orderup.engine.revoke import revoke_token

    now = datetime.now(UTC)
    if expires_at is not None and expires_at <= now:
        return f"Token {jti} expired at {expires_at:%Y-%m-%d %H:%M:%SZ}: it counts no more as it is."
    database = open_database(settings.database_url)
    await database.open()
    try:
        is_new = await revoke_token(database, jti, expires_at=expires_at or now + LONGEST_LIFE, now=now)
    finally:
        await database.close()
    return f"Token {jti} counts no more, from now on." if is_new else f"Token {jti} was revoked before."
