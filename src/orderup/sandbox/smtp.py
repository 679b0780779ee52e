"""A mail server, at a port of its own, that takes every mail and delivers none: they stay in its inbox.

Its switch speaks of the steps of a mail as of calls: `greet`, `sign_in`, `name_sender`, `name_recipient`,
`take_message`, `ask_nothing` and `part`. A status from 400 on is the answer's code. `takes_effect` with `take_message`
keeps the mail, and then answers as switched: so does a server whose connection breaks at the worst of moments.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as as_written
from http import HTTPStatus
from ssl import SSLContext
from typing import Any

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, Session

from orderup.sandbox.behaviour import Answer, Body
from orderup.sandbox.border import Refused
from orderup.sandbox.ledger import Outcome
from orderup.sandbox.service import Call, Said, Service, Switch
from orderup.sandbox.wire import AT_ONCE

MOST_MAILS, LARGEST_MAIL = 200, 256 << 10
MOST_AT_ONCE = 200
IDLE_SECONDS = 60.0
SHOWN_MAILS, SHOWN_TEXT = 50, 2_000
STEPS = ("greet", "sign_in", "name_sender", "name_recipient", "take_message", "ask_nothing", "part")
# Of an answer of one line, said at once.
BODIES = frozenset({Body.HONEST, Body.GARBAGE, Body.EMPTY, Body.HANG, Body.RESET})
GARBAGE = "This is no answer of a mail server"


@dataclass(frozen=True, slots=True)
class Received:
    """sender, recipients: of the envelope. content: as it came."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, EmailMessage, policy=as_written)

    @property
    def subject(self) -> str:
        return str(self.message["Subject"] or "")

    @property
    def message_id(self) -> str:
        return str(self.message["Message-ID"] or "")

    @property
    def text(self) -> str:
        """Whatever it is, for it may be no mail at all."""
        body = self.message.get_body(("plain",))
        if body is None:
            return ""
        raw = body.get_payload(decode=True)
        return raw.decode(errors="replace").replace("\r\n", "\n") if isinstance(raw, bytes) else ""


class Smtp(Service):
    """`listener`: where it is. host: as which it is known. password: the only one that is taken; None: any. tls:
    offered, and wanted, by STARTTLS; with `is_tls_first` it is spoken from the first byte on."""

    name, title, template = "smtp", "Mail", "smtp.html"

    def __init__(
        self,
        listener: socket.socket,
        *,
        host: str,
        scale: float,
        tls: SSLContext | None = None,
        is_tls_first: bool = False,
    ) -> None:
        super().__init__(scale=scale)
        self.listener, self.tls, self.is_tls_first = listener, tls, is_tls_first
        self.host, self.port = host, listener.getsockname()[1]
        self.password: str | None = None
        self.messages: deque[Received] = deque(maxlen=MOST_MAILS)
        self.doors: set[Door] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        # it tells of each line that is said
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        loop = asyncio.get_running_loop()
        tls_first = self.tls if self.is_tls_first else None
        server = await loop.create_server(self._door, sock=self.listener.dup(), ssl=tls_first)
        try:
            yield
        finally:
            server.close()
            await asyncio.gather(*(door.shut() for door in list(self.doors)))
            await server.wait_closed()

    def _door(self) -> "Door":
        return Door(self, tls=None if self.is_tls_first else self.tls)

    # what it is

    def calls(self) -> Sequence[Call]:
        return ()

    @property
    def call_names(self) -> list[str]:
        return list(STEPS)

    def failure(self, answer: Answer) -> Said:
        return Said({"error": "Mail comes by SMTP, not here."}, status=answer.status)

    def switch(self, **given: Any) -> Switch:
        before = self.behaviour
        switch = super().switch(**given)
        wrong = {}
        if switch.body not in BODIES:
            wrong["body"] = f"is none of {', '.join(sorted(BODIES))}"
        if switch.status != HTTPStatus.OK and switch.status < HTTPStatus.BAD_REQUEST:
            wrong["status"] = "is 200, or 400 to 599"
        if wrong:
            self.behaviour = before
            raise Refused(422, "Not switched.", wrong)
        return switch

    def shown(self) -> Mapping[str, Any]:
        return {"mails": list(self.messages)[-SHOWN_MAILS:][::-1], "longest": SHOWN_TEXT}

    # the steps

    async def step(self, name: str, door: "Door", *, honest: Any, work: Callable[[], None] = lambda: None) -> Any:
        """What is answered. `honest`: unless it is switched."""
        switch = self.take(name)
        self.asked[name] += 1
        arrival = self.ledger.note("SMTP", f"/{name}", body=switch.body)
        try:
            if switch.takes_effect or not switch.is_bad:
                work()
            await asyncio.sleep(switch.delay_seconds / self.scale)
            if switch.body in {Body.RESET, Body.EMPTY, Body.HANG}:
                if switch.body is not Body.HANG:
                    self.ledger.end(arrival, Outcome.RESET)
                await door.leave(switch.body)
        except asyncio.CancelledError:
            if arrival.outcome is Outcome.UNDER_WAY:
                self.ledger.end(arrival, Outcome.CALLER_LEFT)
            raise
        arrival.status = switch.status
        self.ledger.end(arrival, Outcome.ANSWERED)
        if switch.body is Body.GARBAGE:
            return GARBAGE
        return f"{switch.status} The sandbox is switched to say so" if switch.status >= 400 else honest

    def keep(self, envelope: Envelope) -> None:
        assert isinstance(envelope.content, bytes)
        self.messages.append(Received(envelope.mail_from or "", tuple(envelope.rcpt_tos), envelope.content))
        self.ledger.tell()


class Door(SMTP):
    """One connection."""

    def __init__(self, smtp: Smtp, *, tls: SSLContext | None) -> None:
        super().__init__(
            Steps(smtp),
            data_size_limit=LARGEST_MAIL,
            hostname="localhost",
            ident="orderup sandbox",
            tls_context=tls,
            require_starttls=tls is not None,
            auth_require_tls=False,
            authenticator=self._may_sign_in,
            timeout=IDLE_SECONDS,
            loop=asyncio.get_running_loop(),
        )
        self.smtp = smtp

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.smtp.doors.add(self)
        if len(self.smtp.doors) > MOST_AT_ONCE:
            self._cut()

    def connection_lost(self, error: Exception | None) -> None:
        self.smtp.doors.discard(self)
        super().connection_lost(error)

    async def shut(self) -> None:
        """At once, whatever is being said."""
        task = self._handler_coroutine
        self._cut()
        if task is not None:
            # a handshake that failed may be waited for still
            task.cancel()
            await asyncio.wait([task])

    async def leave(self, body: Body) -> None:
        """Say nothing more; it returns by being cancelled, when the connection is lost."""
        match body:
            case Body.RESET:
                self._cut()
            case Body.EMPTY if self.transport is not None:
                self.transport.close()
            case _:
                pass
        await asyncio.Event().wait()

    def _cut(self) -> None:
        if isinstance(self.transport, asyncio.Transport) and not self.transport.is_closing():
            if (connection := self.transport.get_extra_info("socket")) is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            self.transport.abort()

    def _may_sign_in(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any
    ) -> AuthResult:
        """What the library asks for cannot wait: only the status of a switch counts here."""
        switch = self.smtp.take("sign_in")
        self.smtp.asked["sign_in"] += 1
        arrival = self.smtp.ledger.note("SMTP", "/sign_in", body=switch.body)
        is_known = isinstance(given, LoginPassword) and self.smtp.password in {None, given.password.decode()}
        arrival.status = 200 if is_known else 535
        self.smtp.ledger.end(arrival, Outcome.ANSWERED)
        if switch.status >= HTTPStatus.BAD_REQUEST:
            arrival.status = switch.status
            return AuthResult(
                success=False, handled=False, message=f"{switch.status} The sandbox is switched to say so"
            )
        if not is_known:
            return AuthResult(success=False, handled=False, message="535 5.7.8 Username and password not accepted")
        return AuthResult(success=True)


class Steps:
    """What the library asks at each command."""

    def __init__(self, smtp: Smtp) -> None:
        self.smtp = smtp

    async def handle_EHLO(  # noqa: N802  the library's name
        self, server: Door, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        def greet() -> None:
            session.host_name = hostname

        said = await self.smtp.step("greet", server, honest=responses, work=greet)
        return said if isinstance(said, list) else [said]

    async def handle_HELO(self, server: Door, session: Session, _envelope: Envelope, hostname: str) -> Any:  # noqa: N802
        def greet() -> None:
            session.host_name = hostname

        return await self.smtp.step("greet", server, honest="250 localhost", work=greet)

    async def handle_MAIL(  # noqa: N802  the library's name
        self, server: Door, _session: Session, _envelope: Envelope, _address: str, _options: list[str]
    ) -> Any:
        return await self.smtp.step("name_sender", server, honest=MISSING)

    async def handle_RCPT(  # noqa: N802  the library's name
        self, server: Door, _session: Session, _envelope: Envelope, _address: str, _options: list[str]
    ) -> Any:
        return await self.smtp.step("name_recipient", server, honest=MISSING)

    async def handle_DATA(self, server: Door, _session: Session, envelope: Envelope) -> Any:  # noqa: N802  as above
        return await self.smtp.step(
            "take_message", server, honest="250 OK, kept here", work=lambda: self.smtp.keep(envelope)
        )

    async def handle_NOOP(self, server: Door, _session: Session, _envelope: Envelope, _arg: str) -> Any:  # noqa: N802
        return await self.smtp.step("ask_nothing", server, honest=MISSING)

    async def handle_QUIT(self, server: Door, _session: Session, _envelope: Envelope) -> Any:  # noqa: N802  as above
        return await self.smtp.step("part", server, honest=MISSING)
