"""`orderup campaigns import`: a file of campaigns, read, shown, and placed in this process."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orderup.cli.app import app, command

if TYPE_CHECKING:
    from orderup.db.database import WriteConnection
    from orderup.engine.engine import Engine
    from orderup.settings import Settings
    from orderup.shops.campaigns.campaign import Campaign
    from orderup.shops.campaigns.imports import Import

MOST_SHOWN = 20
LINE_SECONDS = 5.0
PAGES_KIB = 4096
SOMETHING_WRONG = 1
campaigns = typer.Typer(help="The campaign desk: import files of campaigns.", no_args_is_help=True)
app.add_typer(campaigns, name="campaigns")


@command("import", of=campaigns)
def import_file(
    file: Annotated[Path, typer.Argument(help="A CSV in UTF-8 whose first line names the columns.", dir_okay=False)],
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if anything in the file is wrong.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether to go on.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is in the file.")] = False,
) -> None:
    """Import a file of campaigns: every campaign in it is placed, to be submitted by the servers.

    Rows that are wrong are told and left out. Run again with the same file, it goes on where it was stopped.
    """
    from orderup.cli.assembly import make_engine
    from orderup.cli.shops import load_shops
    from orderup.db.connect import open_database
    from orderup.errors import Misconfigured
    from orderup.settings import Settings

    if not file.is_file():
        raise Misconfigured(f"There is no file {file}.")
    if not (yes or dry_run or sys.stdin.isatty()):
        raise Misconfigured("There is nobody here to ask whether to import this file. Say so with --yes.")
    settings = Settings.from_environment(os.environ)
    shops = load_shops(["campaigns"])

    async def run() -> int:
        database = open_database(settings.database_url, shops=shops)
        await database.open()
        try:
            await database.write(_keep_few_pages)
            return await _import(make_engine(settings, database, shops), settings, _Wish(file, strict, yes, dry_run))
        finally:
            await database.close()

    if code := asyncio.run(run()):
        raise typer.Exit(code)


def _keep_few_pages(connection: "WriteConnection") -> None:
    """SQLite's own memory would be a tenth of all that this process takes, and its rows are written in their order."""
    if connection.connection.dialect.name == "sqlite":
        connection.connection.exec_driver_sql(f"pragma cache_size = -{PAGES_KIB}")


class _Wish:
    def __init__(self, file: Path, is_strict: bool, is_sure: bool, is_dry_run: bool) -> None:  # noqa: FBT001  of one command
        self.file, self.is_strict, self.is_sure, self.is_dry_run = file, is_strict, is_sure, is_dry_run


async def _import(engine: "Engine", settings: "Settings", wish: _Wish) -> int:
    """The exit code."""
    from orderup.shops.campaigns.imports import ImportState

    found = None if wish.is_dry_run else await _begun(engine, wish)
    if found is None:
        found = await _read(engine, wish)
    await _show(engine, found, a_minute=settings.dsp_requests_a_minute)
    code = SOMETHING_WRONG if found.errors else 0
    if found.state is ImportState.DISCARDED:
        typer.echo("Nothing was imported." if wish.is_dry_run else "Nothing was imported: the file is not all right.")
        return code
    if found.state is ImportState.READY and not await _may_go_on(engine, found, wish):
        return SOMETHING_WRONG
    await _place(engine, found)
    return code


async def _begun(engine: "Engine", wish: _Wish) -> "Import | None":
    """An import of this very file that was not brought to its end."""
    from orderup.errors import Conflict
    from orderup.shops.campaigns.import_reading import digest_of
    from orderup.shops.campaigns.imports import ImportState, start, unfinished_import

    digest, _ = await digest_of(wish.file)
    found = await unfinished_import(engine.database, digest, is_strict=wish.is_strict)
    if found is not None and found.state is ImportState.PLACING:
        typer.echo(f"This file was begun to be imported before: {found.placed:,} campaigns are here. Going on.")
        with suppress(Conflict):  # somebody else is at it, too: none is placed twice
            await engine.database.write(partial(start, id=found.id, now=engine.now()))
    return found


async def _read(engine: "Engine", wish: _Wish) -> "Import":
    from orderup.shops.campaigns.import_reading import read_import

    began = time.monotonic()
    with _bar("Reading", os.path.getsize(wish.file)) as move_to:  # noqa: ASYNC240,PTH202  there is nobody else in this loop
        found = await read_import(
            engine,
            wish.file,
            name=wish.file.name,
            is_strict=wish.is_strict,
            is_dry_run=wish.is_dry_run,
            note=move_to,
        )
    typer.echo(f"Read in {time.monotonic() - began:,.1f} s.")
    return found


async def _show(engine: "Engine", found: "Import", *, a_minute: int) -> None:
    from orderup.shops.campaigns.import_preview import preview_lines
    from orderup.shops.campaigns.imports import read_errors

    errors = await engine.database.read(lambda connection: read_errors(connection, found.id, most=MOST_SHOWN))
    for line in preview_lines(found, [problem for _, problem in errors], a_minute=a_minute):
        typer.echo(line)


async def _may_go_on(engine: "Engine", found: "Import", wish: _Wish) -> bool:
    from orderup.shops.campaigns.imports import discard, start

    if not wish.is_sure and not _is_agreed(f"Import {found.waiting:,} campaigns?"):
        await engine.database.write(lambda connection: discard(connection, found.id, now=engine.now()))
        typer.echo("Nothing was imported.")
        return False
    await engine.database.write(lambda connection: start(connection, found.id, now=engine.now()))
    return True


def _is_agreed(question: str) -> bool:
    """Raises typer.Abort at Ctrl-C, which the event loop would keep until somebody has answered."""
    loops = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return typer.confirm(question)
    finally:
        signal.signal(signal.SIGINT, loops)


async def _place(engine: "Engine", found: "Import") -> None:
    from orderup.shops.campaigns.campaigns import add_campaign
    from orderup.shops.campaigns.imports import find_import, still_placing
    from orderup.shops.campaigns.placing import Also, Placer, finish

    async def place(campaign: "Campaign", also: Also) -> None:
        await add_campaign(engine, campaign, source="import", also=also)

    placer, began = Placer(found.id, engine.database.read, place), time.monotonic()
    with _bar("Placing", found.waiting) as move_to:
        done = 0
        while (count := await placer.place_some()) is not None:
            done += count
            move_to(done)
            await engine.database.write(partial(still_placing, id=found.id, now=engine.now()))
    await engine.database.write(lambda connection: finish(connection, found.id, now=engine.now()))
    after = await find_import(engine.database, found.id)
    left_out = f"; {after.here:,} were here already" if after.here else ""
    typer.echo(f"Imported: {after.placed:,} campaigns{left_out}. Placed in {time.monotonic() - began:,.1f} s.")


@contextmanager
def _bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """How far it is: on a terminal as a bar, elsewhere a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console, told_at = Console(file=sys.stdout), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=total)

        def move_to(done: int) -> None:
            nonlocal told_at
            progress.update(bar, completed=done)
            if not console.is_terminal and time.monotonic() - told_at > LINE_SECONDS:
                told_at = time.monotonic()
                typer.echo(f"{what}: {done / max(total, 1):.0%}")

        yield move_to
