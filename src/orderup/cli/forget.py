"""`orderup forget`: blank what is personal in some orders."""

import asyncio
import os
from typing import Annotated

import typer

from orderup.cli.app import command


@command()
def forget(
    orders: Annotated[list[str], typer.Argument(help="Ids of orders that have ended.", metavar="ORDER...")],
    shop: Annotated[
        list[str] | None, typer.Option(help="A shop that is not installed but named, package.module:shop.")
    ] = None,
) -> None:
    """Blank what is personal in orders: names, addresses, wishes, notes. The orders' links stop working."""
    from orderup.cli.assembly import make_engine
    from orderup.cli.shops import load_shops
    from orderup.db.connect import open_database
    from orderup.engine.forget import forget_order
    from orderup.model.ids import read_id
    from orderup.settings import Settings

    settings = Settings.from_environment(os.environ)
    ids = [read_id(order, what="order") for order in orders]
    shops = [*load_shops([]), *(load_shops(shop) if shop else [])]

    async def run() -> None:
        database = open_database(settings.database_url, shops=shops)
        await database.open()
        try:
            engine = make_engine(settings, database, shops)
            for order, id in zip(orders, ids, strict=True):
                await forget_order(engine, id, shops={each.name: each.forget for each in shops})
                typer.echo(f"{order}: forgotten")
        finally:
            await database.close()

    asyncio.run(run())
