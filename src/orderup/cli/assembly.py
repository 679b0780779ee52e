"""Puts the parts together: a database, an engine on it, shops, executors, the two apps.

Source of the idea: the composition root of "Architecture Patterns with Python" (cosmicpython.com), chapter 13.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING

import structlog

from orderup.db.connect import open_database
from orderup.db.database import Database, ReadConnection
from orderup.db.read import is_token_revoked
from orderup.engine.claim import ClaimDesk
from orderup.engine.clock import Clock
from orderup.engine.engine import Engine, Limits
from orderup.engine.follow_up import FollowUps
from orderup.engine.lease import WorkerBook
from orderup.engine.place import check_plan
from orderup.engine.publish import Publisher, register_targets
from orderup.engine.schedule import check_schedule
from orderup.errors import InvalidPlan, Misconfigured, OrderupError
from orderup.executors.local import LocalExecutor
from orderup.executors.upkeep import end_lease, keep_lease
from orderup.model.delivery import Target
from orderup.settings import Settings
from orderup.shop import Keeper, Shop
from orderup.web import back, front
from orderup.web.app import MountedShop, OrderupApp, build_app
from orderup.web.engine_metrics import EngineMetrics
from orderup.web.metrics import Metrics
from orderup.web.pages import home
from orderup.web.pages.route import show_nothing_there
from orderup.web.pages.site import Site
from orderup.web.views import view_event

if TYPE_CHECKING:
    from orderup.executors.celery_inspection import Inspection
    from orderup.executors.dispatch import Dispatcher

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class House:
    """One process, put together."""

    settings: Settings
    database: Database
    engine: Engine
    shops: Sequence[Shop]
    front: OrderupApp
    back: OrderupApp
    executor: LocalExecutor | None
    claim_desk: ClaimDesk
    keepers: Mapping[str, Keeper]

    async def drain(self, grace: timedelta) -> None:
        """Take nothing new that somebody would wait for on a connection; those who wait get so long."""
        if not self.keepers:
            return
        draining = [asyncio.create_task(keeper.drain(), name=f"drain {name}") for name, keeper in self.keepers.items()]
        _, late = await asyncio.wait(draining, timeout=grace.total_seconds())
        for task in late:
            task.cancel()
        for keeper in self.keepers.values():
            keeper.close()

    def stop_serving(self) -> None:
        """Whoever follows or waits for tasks is sent home, so that the web servers can end at once."""
        self.engine.feed.stop()
        self.claim_desk.close()


def make_engine(settings: Settings, database: Database, shops: Sequence[Shop]) -> Engine:
    """The engine with what the owner set."""
    limits = Limits(settings.rfa_expiry, settings.retention, settings.keys_kept_for, settings.lease)
    kinds = {shop.name: shop.adjust(settings, shop.kinds) if shop.adjust else shop.kinds for shop in shops}
    return Engine(database, kinds, limits=limits)


async def open_targets(
    engine: Engine,
    settings: Settings,
    shops: Sequence[Shop],
    stack: AsyncExitStack,
    *,
    note_returned: Callable[[str], None],
) -> list[Target]:
    """Where events go, to be closed with the stack. note_returned: see `RabbitMQ`."""
    targets: list[Target] = []
    for shop in shops:
        wanted = {type: each for type, each in shop.follow_ups.items() if each.when is None or each.when(settings)}
        if wanted:
            targets.append(FollowUps(engine, shop.name, wanted))
    if settings.webhook_url is not None and settings.webhook_secret is not None:
        from orderup.integrations.webhook import Webhook

        secret = settings.webhook_secret.get_secret_value()
        targets.append(await stack.enter_async_context(Webhook(settings.webhook_url, secret, show=view_event)))
    publishing = [shop for shop in shops if shop.publications]
    if settings.rabbitmq_url is not None and publishing:
        from orderup.integrations.rabbitmq import RabbitMQ

        for shop in publishing:
            rabbitmq = RabbitMQ(
                settings.rabbitmq_url,
                shop.name,
                shop.publications,
                show=view_event,
                needs_queue=settings.rabbitmq_require_route,
                note_returned=note_returned,
            )
            targets.append(await stack.enter_async_context(rabbitmq))
    return targets


@asynccontextmanager
async def open_house(
    settings: Settings,
    shops: Sequence[Shop],
    *,
    back_url: str,
    front_url: str = "http://localhost:8000",
    executor: str = "local",
    grace: timedelta = timedelta(seconds=10),
    at_root: bool | None = None,
) -> AsyncIterator[House]:
    """Everything running but the web servers; drains at the end. Raises Misconfigured.

    at_root: mount the only shop without a prefix; None: if there is only one.
    """
    schedules = {f"{shop.name}/{name}": each for shop in shops for name, each in shop.schedules.items()}
    for schedule in schedules.values():
        check_schedule(schedule)
    for shop in shops:
        check_plans(shop)
    site = Site({shop.name: shop.templates for shop in shops if shop.templates}, shops=shops)
    celery_broker = celery_broker_of(settings) if executor == "celery" else None
    database = open_database(settings.database_url, shops=shops)
    await database.open()
    try:
        engine = make_engine(settings, database, shops)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            claim_desk, book = ClaimDesk(engine, group), WorkerBook(engine)
            metrics = Metrics()
            resources = {
                shop.name: await stack.enter_async_context(shop.resources(settings, metrics.registry))
                for shop in shops
                if shop.resources is not None
            }
            runs_handlers = executor == "local" and _has_handlers(shops)
            local = LocalExecutor(engine, shops, resources=resources) if runs_handlers else None
            clock = Clock(engine, schedules=schedules, prunes={shop.name: shop.prune for shop in shops if shop.prune})
            engine_metrics = EngineMetrics(engine, metrics)
            targets = await open_targets(engine, settings, shops, stack, note_returned=engine_metrics.note_returned)
            await register_targets(engine, targets)
            publishers = [Publisher(engine, target, observe=engine_metrics.note_arrivals) for target in targets]
            tasks = [
                group.create_task(engine.run(), name="engine"),
                group.create_task(clock.run(), name="clock"),
                group.create_task(book.run(), name="worker book"),
                group.create_task(engine_metrics.run(), name="metrics"),
                *(group.create_task(each.run(), name=f"publisher of {each.target.name}") for each in publishers),
            ]
            working = _start_executor(group, engine, local, lease=settings.lease)
            inspection = None
            if celery_broker is not None:
                dispatcher, inspection = _make_celery(settings, engine, shops, broker=celery_broker)
                dispatcher.observe = engine_metrics.note_messages
                stack.callback(inspection.close)
                tasks.append(group.create_task(dispatcher.run(), name="messages to workers"))
            keepers = {shop.name: shop.keeper(engine, settings) for shop in shops if shop.keeper is not None}
            tasks += [group.create_task(each.run(), name=f"keeper of {name}") for name, each in keepers.items()]
            for keeper in keepers.values():
                await keeper.started()
            front_app, back_app = _make_apps(
                settings, engine, _prefixes(shops, at_root=at_root), shops, metrics=metrics, site=site
            )
            for app in (front_app, back_app):
                app.state.claim_desk, app.state.worker_book = claim_desk, book
                app.state.front_url, app.state.back_url = front_url, back_url
                app.state.keepers, app.state.resources = keepers, resources
                app.state.celery, app.state.stand_in = inspection, None
            try:
                yield House(settings, database, engine, shops, front_app, back_app, local, claim_desk, keepers)
            finally:
                if local is not None:
                    await local.drain(grace)
                    await end_lease(engine, local)
                for task in (*working, *tasks):
                    task.cancel()
                claim_desk.close()
    finally:
        await database.close()


def check_plans(shop: Shop) -> None:
    """Those that the shop makes without an order. Raises Misconfigured for one that could not be placed."""
    makers = {f"the schedule {name}": each.plan for name, each in shop.schedules.items()}
    if shop.example is not None:
        makers["the example"] = shop.example
    for what, make in makers.items():
        try:
            check_plan(make(), shop=shop.name, kinds=shop.kinds)
        except InvalidPlan as error:
            raise Misconfigured(f"Shop {shop.name}: the plan of {what} cannot be placed. {error}") from error
        except Exception:  # what it reads may not be there yet; it is tried again when it is due
            log.warning("a plan cannot be made yet", shop=shop.name, plan=what, exc_info=True)


def _start_executor(
    group: asyncio.TaskGroup, engine: Engine, executor: LocalExecutor | None, *, lease: timedelta
) -> list[asyncio.Task[None]]:
    if executor is None:
        return []
    upkeep = keep_lease(engine, executor, kind="local", lease=lease)
    return [
        group.create_task(executor.run(), name="local executor"),
        group.create_task(upkeep, name="executor's lease"),
    ]


def _make_celery(
    settings: Settings, engine: Engine, shops: Sequence[Shop], *, broker: str
) -> tuple["Dispatcher", "Inspection"]:
    """What tells Celery's workers of work, and what asks how they are: each has its own connection to the broker."""
    from orderup.executors.celery import Broker, make_app
    from orderup.executors.celery_inspection import Inspection
    from orderup.executors.dispatch import Dispatcher
    from orderup.executors.local import queues_with_handlers

    queues, prefix = queues_with_handlers(shops), settings.celery_prefix
    app = make_app(broker, queues, prefix=prefix)
    telling, asking = (Broker(app, broker, prefix=prefix) for _ in range(2))
    return Dispatcher(engine, telling, queues), Inspection(asking, queues)


def celery_broker_of(settings: Settings) -> str:
    """The broker of Celery's workers. Raises Misconfigured unless they could do anything."""
    if settings.database_url == "sqlite://":
        raise Misconfigured(
            "DATABASE_URL=sqlite:// is in the memory of one process, where Celery's workers do not see it. Use "
            "postgresql://USER@HOST/NAME, or sqlite:///PATH if all run on this machine."
        )
    if settings.celery_broker is None:
        raise Misconfigured(
            "Celery has no broker. Set CELERY_BROKER_URL, such as amqp://guest:guest@localhost:5672/ or "
            "redis://localhost:6379/0."
        )
    if find_spec("celery") is None or (settings.celery_broker.startswith("redis") and find_spec("redis") is None):
        raise Misconfigured("Celery is not installed here: install orderup from its clone with the extra [celery].")
    return settings.celery_broker


def _has_handlers(shops: Sequence[Shop]) -> bool:
    return any(shop.handlers or shop.steps for shop in shops)


def _prefixes(shops: Sequence[Shop], *, at_root: bool | None) -> Mapping[str, str]:
    """Where each shop is mounted, on both apps."""
    is_alone = len(shops) == 1
    return {shop.name: "" if is_alone and at_root is not False else f"/{shop.name}" for shop in shops}


def _make_apps(
    settings: Settings,
    engine: Engine,
    prefixes: Mapping[str, str],
    shops: Sequence[Shop],
    *,
    metrics: Metrics,
    site: Site,
) -> tuple[OrderupApp, OrderupApp]:
    async def is_revoked(jti: str) -> bool:
        return await engine.database.read(lambda connection: is_token_revoked(connection, jti))

    async def readiness() -> Sequence[str]:
        return await _missing(engine)

    def build(kind: str, routers: Sequence[object], mounted: Mapping[str, object]) -> OrderupApp:
        app = build_app(
            kind,  # type: ignore[arg-type]
            settings,
            shops=[MountedShop(name, router, prefixes[name]) for name, router in mounted.items()],  # type: ignore[arg-type]
            routers=routers,  # type: ignore[arg-type]
            is_revoked=is_revoked,
            readiness=readiness,
            metrics=metrics,
        )
        app.state.kind, app.state.engine, app.state.shop_prefixes = kind, engine, prefixes
        app.state.site, app.state.show_nothing_there = site, show_nothing_there
        return app

    # a shop that is alone has the root for its own first page
    homes = () if "" in prefixes.values() else (home.router,)
    fronts = {shop.name: shop.front for shop in shops if shop.front is not None}
    backs = {shop.name: shop.back for shop in shops if shop.back is not None}
    return build("front", (*front.ROUTERS, *homes), fronts), build("back", back.ROUTERS, backs)


async def _missing(engine: Engine) -> Sequence[str]:
    def probe(connection: ReadConnection) -> None:
        is_token_revoked(connection, "")

    try:
        await engine.database.read(probe)
    except OrderupError as error:
        return [str(error)]
    return []
