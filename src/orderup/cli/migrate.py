"""`orderup migrate`: brings the database to the present schema, as every start of a server does."""

import asyncio
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orderup.cli.app import command

if TYPE_CHECKING:
    from orderup.db.migrate import Version


@command()
def migrate(
    shop: Annotated[
        list[str] | None, typer.Option(help="A shop that is not installed but named, package.module:shop.")
    ] = None,
) -> None:
    """Bring the database to the present schema. A server does so when it starts; this is for doing it before."""
    from orderup.cli.shops import load_shops
    from orderup.db.connect import open_database, schemas_of
    from orderup.db.look import look_at
    from orderup.settings import Settings

    settings = Settings.from_environment(os.environ)
    shops = [*load_shops([]), *(load_shops(shop) if shop else [])]
    before = look_at(settings.database_url, schemas_of(shops))

    async def run() -> None:
        database = open_database(settings.database_url, shops=shops)
        await database.open()
        await database.close()

    asyncio.run(run())
    typer.echo("\n".join([f"{before.software}, {before.place}", *told(before.versions)]))


def told(before: Sequence["Version"]) -> list[str]:
    """What was done, a line for orderup's own tables and for each shop's."""
    return [
        f"{each.shop}: at version {each.wants}, nothing to do"
        if each.has == each.wants
        else f"{each.shop}: tables made, version {each.wants}"
        if each.has is None
        else f"{each.shop}: brought from version {each.has} to {each.wants}"
        for each in before
    ]
