"""Mail, over SMTP: one message to one recipient, over a connection of its own.

What comes before the message itself changes nothing, and may be repeated. Once the server takes the message, only its
answer says whether it has it: without one, the outcome is unknown, and nobody can ask for it later. A repeat has the
same Message-ID, by which a mailbox may tell that it had this before.

Whether mail is encrypted is not negotiated: a server that does not offer STARTTLS when it should gets nothing.
"""

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as AS_SENT
from email.utils import format_datetime
from enum import IntEnum

from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPSenderRefused,
)

from orderup.errors import Misconfigured, OutcomeUnknown, Resting, TaskFailed, UpstreamFailed, UpstreamRefused
from orderup.integrations.breaker import Breaker, BreakerState
from orderup.integrations.upstream import BUSY_SECONDS, REFUSED_REST, UpstreamMetrics
from orderup.model.one_line import one_line
from orderup.model.slug import slug
from orderup.settings import Settings, SmtpSecurity

DEADLINE = timedelta(seconds=30)
MOST_IN_FLIGHT = 4
# To say good-bye, when all is done.
PARTING_SECONDS = 2.0
# RFC 5321, 4.5.3.1.1
LONGEST_LOCAL_PART = 64
# What every server takes: no quotes, comments or other letters than English ones.
ATOM, LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
ADDRESS = re.compile(rf"(?=.{{1,64}}@.{{1,253}}\Z){ATOM}(?:\.{ATOM})*@{LABEL}(?:\.{LABEL})*")
MESSAGE_ID = re.compile(r"<[!-;=?A-~]+@[!-;=?A-~]+>")
# They want a name and a password, or others.
UNAUTHENTICATED = frozenset({530, 534, 535, 538})
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Mail:
    """to: one address. message_id: `<something@domain>`, the same whenever this is sent again."""

    to: str
    subject: str
    text: str
    message_id: str
    to_name: str = ""


@dataclass(frozen=True, slots=True)
class MailServer:
    """username: None: nobody signs in. tls: whose certificates are believed; None: those of this machine."""

    host: str
    port: int
    security: SmtpSecurity
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None


class Stage(IntEnum):
    """How far a conversation got."""

    BEGUN = 0
    CONNECTED = 1
    HANDING_OVER = 2


@dataclass(slots=True)
class Conversation:
    client: SMTP
    stage: Stage = Stage.BEGUN


class Mailer:
    """sender: an address. deadline: of one mail, from connecting to the server's word. most: mails in flight."""

    name = "mail server"

    def __init__(
        self,
        server: MailServer,
        *,
        sender: str,
        metrics: UpstreamMetrics,
        deadline: timedelta = DEADLINE,
        most: int = MOST_IN_FLIGHT,
        breaker: Breaker | None = None,
    ) -> None:
        self.server, self.sender, self.metrics = server, Address(addr_spec=sender), metrics
        self.deadline, self.most, self.breaker = deadline.total_seconds(), most, breaker or Breaker()
        self.base_url = f"smtp://{server.host}:{server.port}"
        self.in_flight = 0
        self.last_error: str | None = None
        metrics.breaker.labels(self.name).set_function(lambda: _as_number(self.breaker.state))
        metrics.in_flight.labels(self.name).set_function(lambda: self.in_flight)

    async def send(self, mail: Mail) -> None:
        """Raises Resting (nothing was sent), TaskFailed (this cannot be sent as mail), UpstreamRefused, UpstreamFailed,
        and its OutcomeUnknown: it may have been taken."""
        content = message_of(mail, sender=self.sender, at=datetime.now(UTC)).as_bytes(policy=AS_SENT)

        async def hand_over(talk: Conversation) -> None:
            await talk.client.mail(self.sender.addr_spec)
            await talk.client.rcpt(mail.to)
            talk.stage = Stage.HANDING_OVER
            await talk.client.data(content)

        await self._converse(hand_over, about=mail.to)

    async def check(self) -> str:
        """Greets and signs in. Raises as `send`."""

        async def ask(talk: Conversation) -> None:
            await talk.client.noop()

        await self._converse(ask, about="whether it is there")
        who = f"as {self.server.username}" if self.server.username else "without signing in"
        return f"{self.server.host}:{self.server.port} {who}, from {self.sender.addr_spec}"

    async def _converse(self, say: Callable[[Conversation], Awaitable[None]], *, about: str) -> None:
        if self.in_flight >= self.most:
            raise Resting(BUSY_SECONDS)
        if seconds := self.breaker.ask():
            raise Resting(seconds)
        talk = Conversation(self._client())
        with self._counted():
            try:
                async with asyncio.timeout(self.deadline):
                    await talk.client.connect()
                    talk.stage = Stage.CONNECTED
                    await say(talk)
            except SMTPResponseException as error:
                raise self._judged(error, talk, about=about) from error
            except TimeoutError as error:
                said = f"did not answer within {self.deadline:g} s"
                raise self._failed("timeout", said, talk) from error
            except (SMTPException, OSError) as error:
                said = f"broke off: {one_line(str(error))}" if talk.stage else f"cannot be reached: {_why(error)}"
                raise self._failed("unreachable", said, talk) from error
            except asyncio.CancelledError:
                self.breaker.dropped()
                talk.client.close()
                raise
            await _part(talk.client)
            self._there("answered")

    def _client(self) -> SMTP:
        return SMTP(
            hostname=self.server.host,
            port=self.server.port,
            username=self.server.username,
            password=self.server.password,
            local_hostname=self.sender.domain or "localhost",
            timeout=self.deadline,
            use_tls=self.server.security is SmtpSecurity.TLS,
            start_tls=self.server.security is SmtpSecurity.STARTTLS,
            tls_context=self.server.tls,
        )

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.in_flight += 1
        began = time.perf_counter()
        try:
            yield
        finally:
            self.in_flight -= 1
            self.metrics.seconds.labels(self.name).observe(time.perf_counter() - began)

    def _judged(self, error: SMTPResponseException, talk: Conversation, *, about: str) -> TaskFailed | Resting:
        """What an answer other than yes means."""
        talk.client.close()
        said = f"answered {error.code} {one_line(str(error.message))}".rstrip()
        if error.code in UNAUTHENTICATED or (isinstance(error, SMTPAuthenticationError) and error.code >= 500):
            return self._unknown_to_it(said)
        is_about_this = isinstance(error, SMTPSenderRefused | SMTPRecipientRefused | SMTPDataError)
        if 400 <= error.code < 500:
            self._there("refused")
            return UpstreamFailed(f"The {self.name} {said}")
        if 500 <= error.code < 600 and is_about_this:
            self._there("refused")
            return UpstreamRefused(f"The {self.name} {said}")
        return self._failed("failed", said, talk, about=about)

    def _unknown_to_it(self, said: str) -> Resting:
        """It does not take our credentials: nobody asks it for a while, and staff reads why."""
        self.metrics.calls.labels(self.name, "refused").inc()
        self.last_error = f"does not take our credentials ({said}): renew them, and start again"
        self.breaker.open(REFUSED_REST)
        return Resting(REFUSED_REST.total_seconds())

    def _there(self, outcome: str) -> None:
        self.breaker.succeeded()
        self.metrics.calls.labels(self.name, outcome).inc()

    def _failed(self, outcome: str, said: str, talk: Conversation, *, about: str | None = None) -> UpstreamFailed:
        talk.client.close()
        self.breaker.failed(about)
        self.metrics.calls.labels(self.name, outcome).inc()
        self.last_error = said
        text = f"The {self.name} {said}"
        if talk.stage is Stage.HANDING_OVER:
            return OutcomeUnknown(text)
        return UpstreamFailed(text, was_sent=talk.stage is not Stage.BEGUN)


def address_of(customer: str, *, domain: str) -> str:
    """`mr_cakelover@gmail.com` of "Mr Cakelover". Raises Invalid if nothing of the name can be spelled."""
    return f"{slug(customer)[:LONGEST_LOCAL_PART].rstrip('_')}@{domain}"


def message_of(mail: Mail, *, sender: Address, at: datetime) -> EmailMessage:
    """Raises TaskFailed, for good, if it cannot be written: above all, if `to` is not exactly one address."""
    if not ADDRESS.fullmatch(mail.to):
        raise TaskFailed(f"No mail can be sent to {mail.to!r}: it is not one plain address.", final=True)
    if not MESSAGE_ID.fullmatch(mail.message_id):
        raise TaskFailed(f"{mail.message_id!r} is no Message-ID: it is of the form <something@domain>.", final=True)
    message = EmailMessage()
    message["From"] = sender
    message["To"] = Address(display_name=_words(mail.to_name), addr_spec=mail.to)
    message["Subject"] = _words(mail.subject)
    message["Date"] = format_datetime(at)
    message["Message-ID"] = mail.message_id
    # asks other machines not to answer, RFC 3834
    message["Auto-Submitted"] = "auto-generated"
    # whatever was written, lines of ASCII that are short enough for every server
    message.set_content(mail.text.encode(errors="replace").decode(), cte="quoted-printable")
    return message


@asynccontextmanager
async def open_mailer(settings: Settings, metrics: UpstreamMetrics) -> AsyncIterator[Mailer]:
    """Raises Misconfigured."""
    if settings.smtp_host is None:
        raise Misconfigured("SMTP_HOST is not set. Set it, or let the sandbox stand in.")
    is_open = settings.smtp_security is SmtpSecurity.NONE and settings.smtp_host not in THIS_MACHINE
    if is_open and settings.smtp_password is not None:
        raise Misconfigured("SMTP_SECURITY=none would send SMTP_PASSWORD in the clear. Use starttls or tls.")
    server = MailServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_username,
        settings.smtp_password.get_secret_value() if settings.smtp_password else None,
    )
    if not ADDRESS.fullmatch(settings.smtp_from):
        raise Misconfigured(f"SMTP_FROM={settings.smtp_from} is not one plain address, such as orders@example.com.")
    yield Mailer(server, sender=settings.smtp_from, metrics=metrics)


def _words(text: str) -> str:
    """On one line, also once it was read: the library decodes words that look encoded, ends of lines and all, even
    those within quotes, and writes what came of it into the header."""
    return one_line(text).replace("=?", "= ?")


async def _part(client: SMTP) -> None:
    """All is said: how the other side takes its leave changes nothing."""
    with suppress(SMTPException, OSError):
        async with asyncio.timeout(PARTING_SECONDS):
            await client.quit()
    client.close()


def _why(error: Exception) -> str:
    return one_line(str(error)) or type(error).__name__


def _as_number(state: BreakerState) -> float:
    return {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}[state]
