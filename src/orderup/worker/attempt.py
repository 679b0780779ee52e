"""One claim from its beginning to its answer: the function, the heartbeats beside it, the result that is owed.

The heartbeats go on until the result is answered, so that a server that was away finds the claim alive. When the server
says that the claim has ended, the function is cancelled; when the worker is told to stop, the function is cancelled and
the claim handed back.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import structlog

from orderup.errors import Refused, TaskFailed, Unavailable
from orderup.model.operation import OperationStatus
from orderup.model.wait import Wait
from orderup.worker.link import NO_TIME, Claim, ClaimEnded, Link, Patience
from orderup.worker.task import Task

log = structlog.get_logger("orderup.worker")
Function = Callable[[Any], Awaitable[Any]]
BEATS_A_LEASE = 4
LAST_WORDS_SECONDS = 5.0
LONGEST_ERROR = 2_000
LONGEST_WAIT = timedelta(days=366)
# What msgspec raises for what JSON cannot hold: unknown types, half surrogates, a list that contains itself.
NOT_JSON = (TypeError, ValueError, RecursionError)


class Attempt:
    """`function` None: this worker has none of that kind."""

    def __init__(
        self, claim: Claim, link: Link, function: Function | None, *, random: Random, heartbeat: timedelta | None
    ) -> None:
        self.claim, self.link, self.function, self.random = claim, link, function, random
        self.task = Task(claim, remember=self._remember)
        self._longest_beat = None if heartbeat is None else heartbeat.total_seconds()
        self._lease_seconds = claim.lease_seconds
        self._answer: tuple[str, bytes] | None = None

    async def run(self) -> None:
        """Ends when the task is answered for, or is not ours any more. Cancelled: hands it back."""
        try:
            await self._answer_for_it()
        except asyncio.CancelledError:
            await self._last_words()
            raise

    async def _answer_for_it(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                beating = group.create_task(self._keep_lease(), name=f"heartbeats of {self.claim.id}")
                self._answer = await self._call()
                await self._deliver(*self._answer)
                beating.cancel()
        except* ClaimEnded as ended:
            self.task.log.info("dropped: the claim has ended", reason=str(ended.exceptions[0]))

    # the function

    async def _call(self) -> tuple[str, bytes]:
        """Verb and body to answer with. Raises ClaimEnded."""
        self.task.log.info("started", attempt=self.task.attempt)
        try:
            return self._outcome(await self._run_function())
        except ClaimEnded:
            raise
        except TaskFailed as error:
            self.task.log.warning("failed", error=str(error), final=error.final)
            return self._failed(str(error), final=error.final, wait=error.retry_after, pause_queue=error.pause_queue)
        except Exception as error:  # a function's unforeseen errors end here: as a failed attempt
            self.task.log.exception("failed")
            return self._failed(f"{type(error).__name__}: {error}")

    async def _run_function(self) -> Any:
        if self.function is None:
            raise TaskFailed(f"This worker has no function for {self.claim.kind}")
        try:
            return await self.function(self.task)
        except asyncio.CancelledError:
            running = asyncio.current_task()
            if running is not None and running.cancelling():
                raise
            raise TaskFailed("What it waited for was cancelled.") from None

    def _outcome(self, outcome: Any) -> tuple[str, bytes]:
        try:
            if isinstance(outcome, Wait):
                return "wait", self._body(seconds=outcome.seconds, memo=outcome.memo)
            return "complete", self._body(result=outcome)
        except NOT_JSON as error:
            raise TaskFailed(f"Its result cannot be stored as JSON: {error}", final=True) from error

    def _failed(
        self, error: str, *, final: bool = False, wait: timedelta | None = None, pause_queue: bool = False
    ) -> tuple[str, bytes]:
        words = (error.strip() or "It failed without a word")[:LONGEST_ERROR].replace("\0", "\N{REPLACEMENT CHARACTER}")
        seconds = None if wait is None else min(max(wait, NO_TIME), LONGEST_WAIT).total_seconds()
        words = words.encode(errors="replace").decode()
        return "fail", self._body(error=words, final=final, retry_after=seconds, pause_queue=pause_queue)

    def _body(self, **values: Any) -> bytes:
        return msgspec.json.encode({"token": self.claim.token, **values})

    # what is said to the back

    async def _deliver(self, verb: str, body: bytes) -> None:
        """Until it is answered, however long the server is away. Raises ClaimEnded."""
        try:
            await self._say(verb, body)
        except ClaimEnded:
            raise
        except Refused as error:
            await self._fail_instead(verb, error)
        else:
            self.task.log.info("answered", verb=verb)

    async def _fail_instead(self, verb: str, refused: Refused) -> None:
        """The server does not take this answer and never will: too large, say. That is a failure, and it is told."""
        self.task.log.error("the server refuses the answer", verb=verb, error=str(refused))
        if verb != "fail":
            self._answer = self._failed(f"Its answer was refused. {refused}", final=True)
            await self._deliver(*self._answer)

    async def _say(self, verb: str, body: bytes) -> Any:
        """Say it until it is answered. Raises what the server refused with."""
        patience = Patience(self.random)
        while True:
            try:
                return await self.link.send(verb, self.claim, body)
            except Unavailable as error:
                if not patience.failures:
                    self.task.log.warning("not answered yet; it is said again", verb=verb, error=str(error))
                await asyncio.sleep(patience.seconds(error))

    async def _remember(self, memo: Any) -> None:
        await self._say("remember", self._body(memo=memo))

    async def _last_words(self) -> None:
        """The worker stops: what is done is told once more, else the claim is handed back."""
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                if self._answer is None:
                    await self.hand_back()
                else:
                    verb, body = self._answer
                    await self.link.send(verb, self.claim, body)
        except ClaimEnded:
            return
        except (Refused, Unavailable, TimeoutError) as error:
            self.task.log.warning("cannot be handed back; its lease runs out instead", error=str(error))

    async def hand_back(self) -> None:
        """Somebody else may take it at once. Raises what `Link.send` does."""
        await self.link.send("hand-back", self.claim, self._body())
        self.task.log.info("handed back")

    # the lease

    async def _keep_lease(self) -> None:
        """Raises ClaimEnded while the function runs; once it is done, what its answer is told decides."""
        body = self._body()
        pause = self._beat_every()
        while True:
            await asyncio.sleep(pause)
            pause = self._beat_every()
            try:
                async with asyncio.timeout(pause):
                    self._note(await self.link.send("heartbeat", self.claim, body))
            except ClaimEnded:
                if self._answer is None:
                    raise
                return
            except (Unavailable, TimeoutError):
                pause *= self.random.uniform(0.1, 0.5)
            except Refused as error:
                self.task.log.warning("a heartbeat is refused", error=str(error))

    def _beat_every(self) -> float:
        """Seconds; not all at once, if many tasks were claimed together."""
        every = self._lease_seconds / BEATS_A_LEASE
        return min(every, self._longest_beat or every) * self.random.uniform(0.8, 1.0)

    def _note(self, told: Any) -> None:
        self._lease_seconds = float(told["lease_seconds"])
        self.task.operation_status = OperationStatus(told["operation_status"])
