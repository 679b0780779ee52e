"""The list of commands, and how an error of the owner's is told: one sentence, no traceback, exit code 2."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

from orderup.errors import OrderupError

F = TypeVar("F", bound=Callable[..., Any])
app = typer.Typer(
    help="Gets every order to its end.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


def version() -> str:
    """Of this installation."""
    from importlib.metadata import version

    return version("orderup")


def _tell_version(is_asked: bool) -> None:  # noqa: FBT001  typer calls it so
    if is_asked:
        typer.echo(f"orderup {version()}")
        raise typer.Exit


@app.callback()
def orderup(
    *,
    _is_version_asked: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which one this is, and end.")
    ] = False,
) -> None:
    """Gets every order to its end.

    It is set up by environment variables; `orderup doctor` says what is set and what is missing.
    """


def command(name: str | None = None, *, of: typer.Typer = app) -> Callable[[F], F]:
    """Register a command whose errors of ours end it with their message. `of`: the group that it belongs to."""

    def register(function: F) -> F:
        @wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            try:
                return function(*args, **options)
            except OrderupError as error:
                typer.echo(f"orderup: {error}", err=True)
                raise typer.Exit(2) from None
            except ExceptionGroup as group:
                # of the tasks that a command runs side by side
                ours, others = group.split(OrderupError)
                if ours is None or others is not None:
                    raise
                for each in _leaves(ours):
                    typer.echo(f"orderup: {each}", err=True)
                raise typer.Exit(2) from None

        of.command(name)(run)
        return function

    return register


def _leaves(group: BaseExceptionGroup[OrderupError]) -> Iterator[OrderupError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def load_commands() -> None:
    """Import every command, each of which registers itself."""
    from orderup.cli import (
        campaigns,
        demo,
        diagram,
        doctor,
        forget,
        migrate,
        prune,
        sandbox,
        serve,
        simulate,
        staffing,
        token,
        work,
    )

    del campaigns, demo, diagram, doctor, forget, migrate, prune, sandbox, serve, simulate, staffing, token, work


load_commands()
