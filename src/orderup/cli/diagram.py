"""`orderup diagram`: how a shop's tasks are scheduled, or how one stored order stands."""

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orderup.cli.app import command
from orderup.errors import Misconfigured, NotFound

if TYPE_CHECKING:
    from orderup.model.operation import Operation
    from orderup.settings import Settings
    from orderup.shop import Shop
    from orderup.web.diagrams.drawing import Drawing


@command()
def diagram(
    shop: Annotated[str, typer.Argument(help="A shop that is installed, or package.module:shop.")],
    operation: Annotated[
        str | None, typer.Argument(help="A stored order's id; none: how orders are carried out.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write it as SVG into this file, besides.")] = None,
) -> None:
    """Draw how a shop's tasks are scheduled, as Mermaid, or how one order of it stands."""
    from orderup.cli.shops import load_shops
    from orderup.settings import Settings
    from orderup.web.diagrams.mermaid import as_mermaid
    from orderup.web.diagrams.svg import as_svg

    [found] = load_shops([shop])
    settings = Settings.from_environment(os.environ)
    drawing = _draw(found, settings, operation)
    typer.echo(as_mermaid(drawing), nl=False)
    if svg is not None:
        try:
            svg.write_text(as_svg(drawing), encoding="utf-8")
        except OSError as error:
            raise Misconfigured(f"Cannot write {svg}: {error.strerror}.") from error


def _draw(shop: "Shop", settings: "Settings", operation: str | None) -> "Drawing":
    from orderup.web.diagrams.drawing import draw_operation, draw_plan

    if operation is not None:
        return draw_operation(shop, asyncio.run(_load(settings, shop, operation)))
    if shop.example is None:
        raise Misconfigured(
            f"Shop {shop.name} has no example of a plan to draw. Give it one (shop.example), or name an order."
        )
    return draw_plan(shop, shop.example(), rfa_within=settings.rfa_expiry, lease=settings.lease)


async def _load(settings: "Settings", shop: "Shop", id: str) -> "Operation":
    from orderup.db.connect import open_database
    from orderup.model.ids import read_id

    operation_id = read_id(id)
    database = open_database(settings.database_url, shops=[shop])
    await database.open()
    try:
        found = (await database.load([operation_id])).get(operation_id)
    finally:
        await database.close()
    if found is None or found.shop != shop.name:
        raise NotFound(f"order of shop {shop.name}", id)
    return found
