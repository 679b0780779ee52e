"""The sandbox in the place of third parties that nobody has set: started by `serve` when a mounted shop needs one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import structlog

from orderup.errors import Misconfigured
from orderup.settings import Settings
from orderup.shop import Shop

log = structlog.get_logger(__name__)


@asynccontextmanager
async def standing_in(settings: Settings, shops: Sequence[Shop], *, port: int | None) -> AsyncIterator[Settings]:
    """The settings with the sandbox's addresses where these shops need some that are not set. `port`: or the next free
    one; None: nobody may stand in.

    Raises Misconfigured.
    """
    missing = {
        name: instead for shop in shops for name, instead in shop.stand_ins.items() if getattr(settings, name) is None
    }
    if not missing:
        yield settings
        return
    names = ", ".join(sorted(name.upper() for name in missing))
    if port is None:
        raise Misconfigured(f"{names}: not set, and --no-sandbox lets nobody stand in. Set them, or leave it out.")
    from orderup.sandbox import serve_sandbox

    try:
        async with serve_sandbox(port) as sandbox:
            log.info("the sandbox stands in for third parties", url=sandbox.base_url, instead_of=names)
            where = {"http": sandbox.base_url}
            found = {setting: text.format(**where) for instead in missing.values() for setting, text in instead.items()}
            yield Settings.model_validate({**settings.model_dump(exclude_unset=True), **found})
    except OSError as error:
        raise Misconfigured(
            f"The sandbox cannot listen: {error.strerror}. Choose another port with --sandbox-port, or set {names}."
        ) from error
