"""`orderup prune`: retention now, instead of within a minute of a running server's clock."""

import asyncio
import os
from datetime import timedelta
from typing import Annotated

import typer

from orderup.cli.app import command


@command()
def prune(
    days: Annotated[
        int | None,
        typer.Option(min=0, max=3650, help="Keep what ended within so many days. Unset: RETENTION_DAYS."),
    ] = None,
    shop: Annotated[
        list[str] | None, typer.Option(help="A shop that is not installed but named, package.module:shop.")
    ] = None,
) -> None:
    """Delete operations that ended long ago, with their tasks, events and RFAs, and keys whose time is over.

    Operations of shops that are neither installed nor named stay: what those shops keep of them could not be deleted.
    """
    from orderup.cli.assembly import make_engine
    from orderup.cli.shops import load_shops
    from orderup.db.connect import open_database
    from orderup.engine.prune import forget_keys, left_alone, prune_operations
    from orderup.model.times import as_micros, show_time
    from orderup.settings import Settings

    settings = Settings.from_environment(os.environ)
    shops = [*load_shops([]), *(load_shops(shop) if shop else [])]
    kept = settings.retention if days is None else timedelta(days=days)

    async def run() -> None:
        database = open_database(settings.database_url, shops=shops)
        await database.open()
        try:
            engine = make_engine(settings, database, shops)
            before = engine.now() - as_micros(kept)
            prunes = {each.name: each.prune for each in shops if each.prune}
            count = await prune_operations(engine, shops=prunes, before=before)
            typer.echo(f"Deleted {_counted(count, 'operation')} that ended before {show_time(before)}.")
            for name in await left_alone(engine, before=before):
                typer.echo(f"Left alone: operations of the shop {name}, which is not here. Name it with --shop.")
            keys = await forget_keys(engine)
            forgotten = show_time(engine.now() - as_micros(settings.keys_kept_for))
            typer.echo(f"Forgot {_counted(keys, 'key')} used before {forgotten}.")
        finally:
            await database.close()

    asyncio.run(run())


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
