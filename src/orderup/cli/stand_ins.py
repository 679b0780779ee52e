"""The sandbox in the place of third parties that nobody has set: started by `serve` when a mounted shop needs one."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from orderup.errors import Misconfigured
from orderup.settings import Settings
from orderup.shop import Shop

if TYPE_CHECKING:
    from orderup.sandbox.server import Sandbox

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StandIn:
    """url: where the sandbox is. instead_of: the settings, as they are written, that nobody has set."""

    url: str
    instead_of: Sequence[str]


@asynccontextmanager
async def standing_in(
    settings: Settings, shops: Sequence[Shop], *, port: int | None
) -> AsyncIterator[tuple[Settings, StandIn | None]]:
    """The settings with the sandbox's addresses where these shops need some that are not set; and what stands in then.
    `port`: or the next free one; None: nobody may stand in.

    Raises Misconfigured.
    """
    missing = missing_settings(settings, shops)
    if not missing:
        yield settings, None
        return
    instead_of = sorted(name.upper() for name in missing)
    names = ", ".join(instead_of)
    if port is None:
        raise Misconfigured(f"{names}: not set, and --no-sandbox lets nobody stand in. Set them, or leave it out.")
    from orderup.sandbox import serve_sandbox

    try:
        async with serve_sandbox(port) as sandbox:
            # who has a key for tokens means it
            tell = log.info if settings.secret_key is None else log.warning
            tell("the sandbox stands in for third parties", url=sandbox.base_url, instead_of=names)
            yield lead_to(sandbox, settings, missing), StandIn(sandbox.base_url, instead_of)
    except OSError as error:
        raise Misconfigured(
            f"The sandbox cannot listen: {error.strerror}. Choose another port with --sandbox-port, or set {names}."
        ) from error


def missing_settings(settings: Settings, shops: Sequence[Shop]) -> Mapping[str, Mapping[str, str]]:
    """Those that shops need and nobody has set, nor what would lead elsewhere: what leads to the sandbox instead."""
    wanted = (each for shop in shops for each in shop.stand_ins.items())
    return {
        name: instead
        for name, instead in wanted
        if getattr(settings, name) is None and not settings.model_fields_set.issuperset(instead)
    }


def lead_to(sandbox: "Sandbox", settings: Settings, missing: Mapping[str, Mapping[str, str]]) -> Settings:
    where = {"http": sandbox.base_url, "smtp_host": sandbox.smtp.host, "smtp_port": sandbox.smtp.port}
    found = {name: text.format(**where) for instead in missing.values() for name, text in instead.items()}
    return Settings.model_validate({**settings.model_dump(exclude_unset=True), **found})
