"""The list of commands, and how an error of the owner's is told: one sentence, no traceback, exit code 2."""

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from importlib import import_module
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from orderup.cli.process import collecting_no_garbage
from orderup.errors import OrderupError

F = TypeVar("F", bound=Callable[..., Any])
# Each is the module of its name, and the first paragraph of its help; in the order in which they are listed.
COMMANDS: Mapping[str, str] = {
    "serve": "Serve shops: customers at the front, staff and workers at the back.",
    "work": (
        "Do a shop's remote tasks, as a worker that may run anywhere. A signal stops it; a second one stops it at once."
    ),
    "doctor": "Say what is set, what answers and what is missing. The exit code is 1 if anything is wrong.",
    "demo": (
        "Show a shop at work, with nothing to prepare: its own server and database for once, everybody played by "
        "programs."
    ),
    "simulate": "Simulate a shop's customers, and whoever serves them, against any server. A signal stops them.",
    "sandbox": "Stand in for the third parties that shops talk to, on this machine, each as faulty as you switch it.",
    "diagram": "Draw how a shop's tasks are scheduled, as Mermaid, or how one order of it stands.",
    "token": "Mint a token for a customer, a worker, staff or an admin, or revoke one.",
    "campaigns": "The campaign desk: import files of campaigns.",
    "staffing": "Foretell how long customers wait for their coffee, and how many baristas that takes.",
    "migrate": (
        "Bring the database to the present schema. A server does so when it starts; this is for doing it before."
    ),
    "prune": ("Delete operations that ended long ago, with their tasks, events and RFAs, and keys whose time is over."),
    "forget": ("Blank what is personal in orders: names, addresses, wishes, notes. The orders' links stop working."),
}


class _Commands(TyperGroup):
    """Imports a command when it is asked for: all of them take seconds, and the list of them needs none."""

    def __init__(self, *, commands: Any = None, **options: Any) -> None:
        unseen = {name: TyperCommand(name, help=summary) for name, summary in COMMANDS.items()}
        super().__init__(commands={**unseen, **(commands or {})}, **options)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in COMMANDS:
            self.commands[args[0]] = _load(args[0]).commands[args[0]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    help="Gets every order to its end.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _load(*names: str) -> TyperGroup:
    """With these imported, each of which registers itself."""
    with collecting_no_garbage():
        for name in names:
            import_module(f"orderup.cli.{name}")
    return typer.main.get_group(app)


def all_commands() -> TyperGroup:
    return _load(*COMMANDS)


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
