"""The worker: claims as many tasks as it has room for, runs a function for each, answers for every one of them."""

import asyncio
import inspect
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import structlog

from orderup.errors import Misconfigured, OrderupError, Refused, Unavailable
from orderup.worker.attempt import Attempt, Function
from orderup.worker.http_link import Http, HttpLink
from orderup.worker.link import Claim, Link, Patience, Wish
from orderup.worker.socket_link import SocketLink

log = structlog.get_logger("orderup.worker")
Transport = Literal["http", "websocket"]
F = TypeVar("F", bound=Function)
T = TypeVar("T")
USUAL_SERVER = "http://localhost:8001"
USUAL_GRACE = timedelta(seconds=10)
MOST_CONCURRENCY = 100
LAST_WORDS_SECONDS = 5.0


class Worker:
    """Register functions with `task`, then `run`, or await `serve`. Once.

    server: the back's address, or a front's, which is asked where the back is. region: where this worker is; without
    one it gets only tasks that may be done anywhere. token: its bearer is a worker. name: unique among all workers;
    made up if left out. concurrency: how many tasks at once, up to 100. transport: "http" polls, "websocket" is pushed
    to. grace: how long running functions may go on once it is asked to stop. heartbeat: beats at least so often;
    without it four times a lease. Raises Misconfigured for values that make no sense.
    """

    def __init__(
        self,
        shop: str,
        *,
        server: str = USUAL_SERVER,
        region: str | None = None,
        token: str | None = None,
        name: str | None = None,
        concurrency: int = 1,
        transport: Transport = "http",
        grace: timedelta = USUAL_GRACE,
        heartbeat: timedelta | None = None,
        random: Random | None = None,
    ) -> None:
        if not 1 <= concurrency <= MOST_CONCURRENCY:
            raise Misconfigured(f"concurrency={concurrency}: a worker does 1 to {MOST_CONCURRENCY} tasks at once.")
        if urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
            raise Misconfigured(f'server="{server}" is no address such as {USUAL_SERVER}.')
        if transport not in ("http", "websocket"):
            raise Misconfigured(f'transport="{transport}" is neither "http" nor "websocket".')
        self.shop, self.server, self.region, self.token = shop, server, region, token
        self.name = name or _made_up_name()
        self.concurrency, self.transport, self.grace, self.heartbeat = concurrency, transport, grace, heartbeat
        self.random = random or Random()  # noqa: S311  spreads retries, keeps no secret
        self.functions: dict[str, Function] = {}
        self._attempts: dict[str, asyncio.Task[None]] = {}
        self._freed, self._stopping, self._hurrying = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def task(self, kind: str | None = None) -> Callable[[F], F]:
        """Decorate an async function `(task) -> result` that does tasks of one kind, by default of its own name.

        It may return anything JSON can hold, or `Wait(seconds, memo=…)` to be called again later; and raise
        `TaskFailed(message, final=…, retry_after=…)`. Any other error is a failed attempt, too. See `Task`.
        """

        def register(function: F) -> F:
            name = kind or str(getattr(function, "__name__", ""))
            if name in self.functions:
                raise Misconfigured(f"The kind of task {name} has two functions.")
            if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)):
                raise Misconfigured(f"The function of {name} is not async. Blocking code runs in asyncio.to_thread.")
            self.functions[name] = function
            return function

        return register

    def run(self) -> None:
        """Work until SIGTERM or SIGINT: then finish what is held within the grace and hand the rest back; at a second
        signal hand back at once. Raises what the server refused this worker with."""
        asyncio.run(self._serve_until_signalled())

    async def _serve_until_signalled(self) -> None:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for name in signals:
            loop.add_signal_handler(name, self.stop)
        try:
            await self.serve()
        finally:
            for name in signals:
                loop.remove_signal_handler(name)

    def stop(self) -> None:
        """Claim nothing more, finish what is held; called again: hand it back at once. Not to be called by another
        thread."""
        (self._hurrying if self._stopping.is_set() else self._stopping).set()

    async def serve(self) -> None:
        """Work until `stop`. Cancelled, it hands back at once. Raises what the server refused this worker with."""
        if not self.functions:
            raise Misconfigured("This worker has no function. Register one: @worker.task(...)")
        back = await self._unless_stopping(self._find_back())
        if back is None:
            return
        wish = Wish(self.name, self.shop, list(self.functions), self.region)
        async with Http(back, token=self.token) as http:
            link: Link = HttpLink(http, wish)
            if self.transport == "websocket":
                link = SocketLink(http, wish, token=self.token, random=self.random)
            log.info("working", worker=self.name, shop=self.shop, region=self.region, kinds=wish.tasks, back=back)
            async with asyncio.TaskGroup() as group:
                keeping = group.create_task(link.run(), name="worker: connection")
                refusal = await self._work(link)
                keeping.cancel()
        log.info("stopped", worker=self.name)
        if refusal is not None:
            raise refusal

    async def _find_back(self) -> str:
        async with Http(self.server, token=self.token) as http:
            return await self._patiently(http.find_back)

    async def _work(self, link: Link) -> Refused | None:
        """Until stopped, or refused. Everything was finished or handed back then."""
        refusal = None
        async with asyncio.TaskGroup() as group:
            try:
                await self._unless_stopping(self._claim_for_ever(group, link))
            except Refused as error:
                refusal = error
            except asyncio.CancelledError:
                await self._give_up(link)
                raise
            await self._drain(link)
        return refusal

    # claiming

    async def _claim_for_ever(self, group: asyncio.TaskGroup, link: Link) -> None:
        while True:
            while (free := self.concurrency - len(self._attempts)) <= 0:
                self._freed.clear()
                await self._freed.wait()
            for claim in await self._patiently(partial(link.claim, most=free)):
                self._begin(group, link, claim)

    def _begin(self, group: asyncio.TaskGroup, link: Link, claim: Claim) -> None:
        attempt = Attempt(claim, link, self.functions.get(claim.kind), random=self.random, heartbeat=self.heartbeat)
        running = self._attempts[claim.token] = group.create_task(attempt.run(), name=f"{claim.kind} {claim.id}")
        running.add_done_callback(lambda _: self._end(claim))

    def _end(self, claim: Claim) -> None:
        del self._attempts[claim.token]
        self._freed.set()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Until it is answered; every outage is told of once."""
        patience = Patience(self.random)
        while True:
            try:
                answer = await ask()
            except Unavailable as error:
                if not patience.failures:
                    log.warning("the server is away; it is asked again", error=str(error))
                await asyncio.sleep(patience.seconds(error))
            else:
                if patience.failures:
                    log.info("the server is back")
                return answer

    # stopping

    async def _unless_stopping(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What it returns; None if it is cut short because the worker is to stop."""
        working = asyncio.create_task(work, name="worker: until stopped")
        stopping = asyncio.create_task(self._stopping.wait(), name="worker: asked to stop")
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            for each in (working, stopping):
                each.cancel()
            await asyncio.wait({working, stopping})

    async def _drain(self, link: Link) -> None:
        """Claim nothing more; wait for what is running, at most for the grace; the rest is handed back."""
        held = list(self._attempts.values())
        log.info("stopping", running=len(held))
        await self._give_up(link)
        if held:
            hurrying = asyncio.create_task(self._hurrying.wait(), name="worker: asked to hurry")
            finishing = asyncio.create_task(asyncio.wait(held), name="worker: finish")
            await asyncio.wait(
                {finishing, hurrying}, timeout=self.grace.total_seconds(), return_when=asyncio.FIRST_COMPLETED
            )
            finishing.cancel()
            hurrying.cancel()
        for attempt in held:
            attempt.cancel()

    async def _give_up(self, link: Link) -> None:
        """Withdraw the claim, before anything is handed back: it would come right back. What was claimed and never
        begun goes back, too."""
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                for claim in await link.release():
                    await Attempt(claim, link, None, random=self.random, heartbeat=None).hand_back()
        except (OrderupError, TimeoutError) as error:
            log.warning("what was claimed last cannot be handed back; its lease runs out instead", error=str(error))


def _made_up_name() -> str:
    host = re.sub(r"[^\w.-]", "-", socket.gethostname(), flags=re.ASCII)[:60]
    return f"{host}-{os.getpid()}-{uuid4().hex[:6]}"
