"""A shop: what it contributes to orderup. Its kinds of tasks with their handlers, its schedules, tables and routes."""

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from orderup.errors import Misconfigured
from orderup.model.delivery import FollowUp, Publication, Shape
from orderup.model.event import EVENT_TYPES
from orderup.model.kind import Allowance, Kind, read_rate
from orderup.model.plan import Plan
from orderup.model.retry import Retry
from orderup.model.schedule import Schedule
from orderup.model.wait import Wait

if TYPE_CHECKING:
    import httpx2


R = TypeVar("R")


class TaskContext(Protocol):
    """What a handler and a remote worker's function are both given.

    params: of its task's plan. inputs: results of the tasks it depends on, by name. memo: what it remembered last.
    attempt: counted from 1. deadline: seconds this attempt has left.
    """

    operation_id: str
    task_id: str
    name: str
    params: Any
    inputs: Mapping[str, Any]
    memo: Any
    attempt: int
    log: Any

    @property
    def deadline(self) -> float: ...

    async def remember(self, memo: Any) -> None:
        """Commit a memo now, before and after something that must not be done twice."""
        ...


class Context(TaskContext, Protocol):
    """What a handler is given."""

    @property
    def http(self) -> "httpx2.AsyncClient":
        """The client that all handlers of this process share, for third parties. It connects within 5 s and is answered
        within 10 s, or in the time the attempt has left if that is less; at most 100 connections. Not to be closed."""
        ...

    @property
    def resources(self) -> Any:
        """What the shop's handlers share in this process, see `Shop`."""
        ...

    async def read(self, query: Callable[[Any], R]) -> R:
        """What a function `(connection) -> result` reads in the database, as it is now. Raises Unavailable."""
        ...

    async def write(self, change: Callable[[Any], R]) -> R:
        """What a function `(connection) -> result` writes into the shop's tables, committed by itself: whatever becomes
        of the task, it stays. It may run more than once, and touches nothing but the database. Raises Unavailable."""
        ...

    async def place(self, plan: Plan, *, key: str, also: Callable[[Any, int], None] | None = None) -> str:
        """Place another order of the shop, once for each key, whichever of its handlers ask and how often: the id of
        its operation. `also(connection, operation_id)` writes the shop's own rows in the same transaction; what it
        raises comes out here, and nothing was placed. Raises KeyMisused if the key placed another plan, Unavailable."""
        ...

    async def cancel(self, operation_id: str, *, reason: str, check: Callable[[Any], None] | None = None) -> bool:
        """Cancel another operation of the shop; False if it is over, or `check`, which is given the operation as it is
        then, raises Conflict. Raises NotFound, Unavailable."""
        ...

    async def heartbeat(self) -> None:
        """Raises StaleToken if this claim has ended. The lease is renewed by itself; this is a look at the database."""
        ...


class Keeper(Protocol):
    """What a shop keeps running beside its routes in each process that serves it. Routes find it by `keeper_of`."""

    async def run(self) -> None:
        """Until cancelled. The process serves nobody before `started` returns."""
        ...

    async def started(self) -> None: ...

    async def drain(self) -> None:
        """The process is about to stop: take nothing new, and return when nothing is left to wait for."""
        ...

    def close(self) -> None:
        """The time to drain is over."""
        ...


Handler = Callable[[Any], Awaitable[Any]]
Step = Callable[[Any, Any], Any]
WorkerFunction = Callable[..., Awaitable[Any]]
# It is part of names of targets, tables and indexes, and PostgreSQL's have 63.
LONGEST_SHOP_NAME = 30
__all__ = ["Context", "Handler", "Keeper", "Schedule", "Shop", "Step", "TaskContext", "Wait", "WorkerFunction"]
H = TypeVar("H", bound=Callable[..., Any])
# What a shop may say of a kind; the others of `Kind` follow from how it is declared.
KIND_OPTIONS = [name for name in Kind.__struct_fields__ if name not in ("name", "is_remote", "has_handler")]
SCHEDULE_OPTIONS = [each.name for each in fields(Schedule) if each.name not in ("name", "plan")]


@dataclass(slots=True)
class Shop:
    """`name` is in routes, queues and tables: lower-case letters, digits and underscores, at most 30.

    tables: a SQLAlchemy MetaData whose tables are named `<shop>_…`. revisions: the package that holds their Alembic
    revisions, see `orderup.db.migrate`; None: what is missing is added. front, back: routers
    (`orderup.web.routes.Router`). region: where its remote tasks are done unless an order says otherwise.
    templates: the package that holds the folder `templates` of its pages.
    worker_functions: async functions `(task) -> result` that `orderup work` runs, by kind; one with a keyword `speed`
    simulates, and is given --speed. example: a plan to draw. prune: deletes the shop's rows of operations that are
    being pruned. forget: blanks what is personal in the shop's rows of operations. facts: `(connection, ids)`, what
    staff reads of operations on its pages, names and values (as JSON has them) by id, the order's name first. adjust:
    `(settings, kinds)`, its kinds as the owner has set them. keeper: `(engine, settings)`, what it keeps running in
    each process that serves it. resources: `(settings, registry of metrics)`, an async context manager that gives what
    its handlers share in a process, such as clients of third parties. stand_ins: for each setting without which a
    third party cannot be asked, the settings that lead to its stand-in, with {http}, {smtp_host}, {smtp_port} for where
    the sandbox is. places: pages of its back that staff
    is led to, as words and paths.
    """

    name: str
    title: str = ""
    about: str = ""
    region: str | None = None
    front: Any = None
    back: Any = None
    tables: Any = None
    revisions: str | None = None
    templates: str | None = None
    kinds: dict[str, Kind] = field(default_factory=dict)
    handlers: dict[str, Handler] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    worker_functions: dict[str, WorkerFunction] = field(default_factory=dict)
    publications: list[Publication] = field(default_factory=list)
    follow_ups: dict[str, FollowUp] = field(default_factory=dict)
    example: Callable[[], Plan] | None = None
    prune: Callable[[Any, Sequence[int]], None] | None = None
    forget: Callable[[Any, Sequence[int]], None] | None = None
    facts: Callable[[Any, Sequence[int]], Mapping[int, Mapping[str, Any]]] | None = None
    adjust: Callable[[Any, Mapping[str, Kind]], Mapping[str, Kind]] | None = None
    keeper: Callable[[Any, Any], Keeper] | None = None
    resources: Callable[[Any, Any], AbstractAsyncContextManager[Any]] | None = None
    stand_ins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.replace("_", "").isalnum() or not self.name.isascii() or self.name != self.name.lower():
            raise Misconfigured(f'The shop name "{self.name}" must be lower-case letters, digits and underscores.')
        if len(self.name) > LONGEST_SHOP_NAME:
            raise Misconfigured(f'The shop name "{self.name}" has more than {LONGEST_SHOP_NAME} letters.')
        self.title = self.title or self.name.capitalize()

    def handler(self, name: str | None = None, **options: Any) -> Callable[[H], H]:
        """Decorate an async function `(context) -> result` that does tasks of one kind. For options see `Kind`;
        `rate` may be written `"40/minute"`."""
        self._check_parentheses("handler", name)

        def register(function: H) -> H:
            called = name or _name_of(function)
            if not _is_async(function):
                raise Misconfigured(
                    f"Shop {self.name}: the handler of {called} is {_sort_of(function)}. Write it as async def, with "
                    "what blocks in await asyncio.to_thread(…); what only touches the database is a step: @shop.step()."
                )
            self.handlers[self._add(called, options, has_handler=True).name] = function
            return function

        return register

    def step(self, name: str | None = None, **options: Any) -> Callable[[H], H]:
        """Decorate a plain function `(connection, context) -> result` that only touches the database: it runs inside
        the transaction that completes its task, and may run more than once."""
        self._check_parentheses("step", name)

        def register(function: H) -> H:
            called = name or _name_of(function)
            if not _is_plain(function):
                raise Misconfigured(
                    f"Shop {self.name}: the step of {called} is {_sort_of(function)}. Write it as a plain def that "
                    "only touches the database; what has to wait for anything else is a handler: @shop.handler()."
                )
            self.steps[self._add(called, options, has_handler=True).name] = function
            return function

        return register

    def allowance(self, name: str, rate: str, *, third_party: str | None = None) -> Allowance:
        """What a third party lets us do, such as `"40/minute"`: kinds that are declared with `allowance=` share it. Of
        one `third_party` there may be several: all of their kinds rest when it asks one of them for a rest."""
        return Allowance(name, read_rate(rate), third_party)

    def remote(self, name: str, **options: Any) -> Kind:
        """Declare a kind of task that remote workers or people do."""
        return self._add(name, options, is_remote=True)

    def schedule(self, name: str, **options: Any) -> Callable[[H], H]:
        """Decorate a function `() -> Plan`, placed at each due time. Options: `every`, or `cron` and `zone`;
        `keeps_alive`."""
        self._check_options(f"the schedule {name}", options, SCHEDULE_OPTIONS)

        def register(function: H) -> H:
            if (options.get("every") is None) == (options.get("cron") is None):
                raise Misconfigured(f"Schedule {name}: give either every=… or cron=…")
            self.schedules[name] = Schedule(name, function, **options)
            return function

        return register

    def publish(
        self,
        exchange: str,
        *,
        routing_key: str,
        events: Collection[str],
        shape: Shape | None = None,
        body: Any = None,
    ) -> Publication:
        """Declare events that go to an exchange of RabbitMQ, see `Publication`. An event has one message at most."""
        publication = Publication(exchange, routing_key, frozenset(events), shape, body)
        for other in self.publications:
            for type in set(events) & set(other.events):
                raise Misconfigured(f"Shop {self.name} publishes {type} to {other.exchange} already.")
        self.publications.append(publication)
        return publication

    def follow_up(self, *events: str, when: Callable[[Any], bool] | None = None) -> Callable[[H], H]:
        """Decorate a function `(connection, event) -> Plan | None` that says what is placed because of an event of this
        shop, once for each. It reads, nothing else, and may be asked about an event more than once. when: `(settings)`,
        whether the owner wants it at all."""

        def register(function: H) -> H:
            for type in events:
                if type not in EVENT_TYPES:
                    raise Misconfigured(f'There is no event "{type}". See docs/reference/events.md.')
                if type in self.follow_ups:
                    raise Misconfigured(f"Shop {self.name} says twice what follows upon {type}.")
                self.follow_ups[type] = FollowUp(function, when)
            return function

        return register

    def _add(
        self, name: str, options: Mapping[str, Any], *, has_handler: bool = False, is_remote: bool = False
    ) -> Kind:
        if name in self.kinds:
            raise Misconfigured(f"Shop {self.name} declares the kind of task {name} twice.")
        if not name.isidentifier():
            raise Misconfigured(f'The kind of task "{name}" must be a name such as bake_pizza.')
        self._check_options(f"the kind of task {name}", options, KIND_OPTIONS)
        rate, retry = options.get("rate"), options.get("retry")
        said = {
            **options,
            "rate": read_rate(rate) if isinstance(rate, str) else rate,
            "retry": retry or Retry(),
        }
        kind = Kind(name, has_handler=has_handler, is_remote=is_remote, **said)
        self.kinds[name] = kind
        return kind

    def _check_options(self, what: str, options: Collection[str], known: Sequence[str]) -> None:
        unknown = [option for option in options if option not in known]
        if unknown:
            raise Misconfigured(
                f"Shop {self.name}: {what} has no option {', '.join(unknown)}. There are: {', '.join(known)}."
            )

    def _check_parentheses(self, decorator: str, name: object) -> None:
        """Without them the function itself comes as the name, and nothing would be declared."""
        if name is not None and not isinstance(name, str):
            raise Misconfigured(f"Shop {self.name}: write @shop.{decorator}() with its parentheses above {name!r}.")


def _innermost(function: object) -> object:
    while isinstance(function, partial):
        function = function.func
    return function


def _is_async(function: object) -> bool:
    """Of a function, what a decorator that says so has wrapped, a partial one, or an object with such a `__call__`."""
    inner = _innermost(function)
    return callable(inner) and any(
        inspect.iscoroutinefunction(each) for each in (inner, inspect.unwrap(inner), type(inner).__call__)
    )


def _is_plain(function: object) -> bool:
    return callable(function) and not _is_async(function)


def _name_of(function: object) -> str:
    return str(getattr(_innermost(function), "__name__", ""))


def _sort_of(function: object) -> str:
    """What was given in the place of the right one."""
    if not callable(function):
        return f"no function, but {function!r}"
    return "an async function" if _is_async(function) else "not async"
