"""Webhooks as Jira sends them: signed, at least once, and again after some minutes if nobody took them."""

import asyncio
import hashlib
import hmac
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx2

MOST_KEPT = 500
# How often, and how many seconds apart; Jira draws the latter from 5 to 15 minutes.
RETRIES, SECONDS_APART = 5, 300.0
RETRIED = frozenset({408, 409, 425, 429})
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 20.0


@dataclass(slots=True)
class Delivery:
    """`id`: the same at each attempt. answers: what each was answered, a status or why there was none."""

    id: str
    key: str
    body: bytes
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    answers: list[str] = field(default_factory=list)
    has_ended: bool = False


class Hooks:
    """`url`: where to; None: nowhere. told: called when something has changed here."""

    def __init__(self, *, scale: float, told: Callable[[], None]) -> None:
        self.scale, self.told = scale, told
        self.url: str | None = None
        self.secret = ""
        self.deliveries: deque[Delivery] = deque(maxlen=MOST_KEPT)
        self._waiting = asyncio.Queue[Delivery]()
        self.under_way = 0

    def send(self, key: str, body: Any) -> None:
        """Without waiting for it. Nothing is sent if nobody wants it, or if too many wait for somebody to be back."""
        if self.url is None or self.under_way >= MOST_KEPT:
            return
        self.under_way += 1
        delivery = Delivery(str(uuid4()), key, json.dumps(body, ensure_ascii=False).encode())
        self.deliveries.append(delivery)
        self._waiting.put_nowait(delivery)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send_all(), name="sandbox's webhooks")
            try:
                yield
            finally:
                sending.cancel()

    async def _send_all(self) -> None:
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        async with (
            httpx2.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client,
            asyncio.TaskGroup() as group,
        ):
            while True:
                delivery = await self._waiting.get()
                group.create_task(self._deliver(client, delivery), name=f"webhook {delivery.id}")

    async def _deliver(self, client: httpx2.AsyncClient, delivery: Delivery) -> None:
        for attempt in range(RETRIES + 1):
            if attempt:
                await asyncio.sleep(SECONDS_APART / self.scale)
            if await self._is_taken(client, delivery, attempt):
                break
        delivery.has_ended = True
        self.under_way -= 1
        self.told()

    async def _is_taken(self, client: httpx2.AsyncClient, delivery: Delivery, attempt: int) -> bool:
        """Whether it is not sent again: because it was taken, or because it was refused for good."""
        if self.url is None:
            return True
        try:
            answer = await client.post(self.url, content=delivery.body, headers=self._headers(delivery, attempt))
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            self._note(delivery, type(error).__name__)
            return False
        self._note(delivery, str(answer.status_code))
        return answer.status_code not in RETRIED and answer.status_code < 500

    def _note(self, delivery: Delivery, answer: str) -> None:
        delivery.answers.append(answer)
        self.told()

    def _headers(self, delivery: Delivery, attempt: int) -> dict[str, str]:
        digest = hmac.new(self.secret.encode(), delivery.body, hashlib.sha256).hexdigest()
        retry = {"x-atlassian-webhook-retry": str(attempt)} if attempt else {}
        return {
            "content-type": "application/json",
            "user-agent": "Atlassian Webhook HTTP Client",
            "x-atlassian-webhook-identifier": delivery.id,
            "x-atlassian-webhook-flow": "Primary",
            "x-hub-signature": f"sha256={digest}",
            **retry,
        }
