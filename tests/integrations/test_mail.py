"""Sending mail: to the sandbox's mail server, over real SMTP."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.policy import SMTP as AS_SENT
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from orderup.errors import (
    Invalid,
    Misconfigured,
    OutcomeUnknown,
    Resting,
    TaskFailed,
    UpstreamFailed,
    UpstreamRefused,
)
from orderup.integrations.breaker import BreakerState
from orderup.integrations.mail import Mail, Mailer, MailServer, address_of, message_of, open_mailer
from orderup.integrations.upstream import UpstreamMetrics
from orderup.sandbox import Outcome, Sandbox, serve_sandbox
from orderup.sandbox.server import listen
from orderup.sandbox.smtp import Smtp
from orderup.settings import Settings, SmtpSecurity

SENDER = "orders@shop.example"
# For a slow and busy machine.
DEADLINE = timedelta(seconds=20)
AWKWARD = 'O\'Brien "Bob" <b>\r\nBcc: evil@x.example\r\n\r\n, evil@y.example; \u202e שלום 🍰'


def mail_to(to: str = "mr_cakelover@gmail.com", *, subject: str = "Order 21", to_name: str = "") -> Mail:
    return Mail(to, subject, "Your order 21 was cancelled.\n.\nBye ✓\n", "<order-21-cancelled@shop.example>", to_name)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with serve_sandbox(scale=1_000) as sandbox:
        yield sandbox


@pytest.fixture
async def mailer(sandbox: Sandbox) -> Mailer:
    return mailer_to(sandbox.smtp)


def mailer_to(
    smtp: Smtp,
    *,
    security: SmtpSecurity = SmtpSecurity.NONE,
    password: str | None = None,
    trusted: ssl.SSLContext | None = None,
    deadline: timedelta = DEADLINE,
    most: int = 4,
) -> Mailer:
    username = None if password is None else "shop"
    server = MailServer("127.0.0.1", smtp.port, security, username, password, trusted)
    metrics = UpstreamMetrics(CollectorRegistry())
    return Mailer(server, sender=SENDER, metrics=metrics, deadline=deadline, most=most)


def outcomes_of(mailer: Mailer) -> dict[str, float]:
    [calls] = mailer.metrics.calls.collect()
    return {each.labels["outcome"]: each.value for each in calls.samples if each.name.endswith("_total")}


# what is sent


async def test_a_mail_comes_as_it_was_written_to_one_recipient(sandbox: Sandbox, mailer: Mailer) -> None:
    began = datetime.now(UTC) - timedelta(seconds=1)
    await mailer.send(mail_to(subject="Order 21 – cancelled", to_name="Mr Cakelover"))
    [received] = sandbox.smtp.messages
    assert (received.sender, received.recipients) == (SENDER, ("mr_cakelover@gmail.com",))
    message = received.message
    assert received.text == mail_to().text
    assert message["Subject"] == "Order 21 – cancelled"
    assert message["To"] == "Mr Cakelover <mr_cakelover@gmail.com>"
    assert message["Message-ID"] == mail_to().message_id
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime >= began.replace(microsecond=0)
    assert received.content.isascii()
    assert outcomes_of(mailer) == {"answered": 1.0}


async def test_a_name_can_neither_add_a_recipient_nor_a_header_nor_a_text(sandbox: Sandbox, mailer: Mailer) -> None:
    await mailer.send(mail_to(subject=f"Order of {AWKWARD}", to_name=AWKWARD))
    [received] = sandbox.smtp.messages
    assert received.recipients == ("mr_cakelover@gmail.com",)
    assert [each.addr_spec for each in received.message["To"].addresses] == ["mr_cakelover@gmail.com"]
    assert received.message["Bcc"] is None
    assert received.message["Subject"].startswith('Order of O\'Brien "Bob" <b> Bcc: evil@x.example , evil@y.example;')
    assert received.text == mail_to().text


@pytest.mark.parametrize(
    "to",
    [
        "",
        "nobody",
        "a@b.c, evil@x.y",
        "a@b.c\r\nBcc: evil@x.y",
        "a@b.c\nRCPT TO:<evil@x.y>",
        "<a@b.c>",
        '"a b"@c.d',
        "a@",
        "@b.c",
        "a@@b.c",
        "a@b..c",
        "jürgen@b.c",
        "a@-b.c",
        f"{'a' * 65}@b.c",
    ],
)
async def test_what_is_not_one_plain_address_is_refused_before_anything_is_sent(
    sandbox: Sandbox, mailer: Mailer, to: str
) -> None:
    with pytest.raises(TaskFailed) as failed:
        await mailer.send(mail_to(to))
    assert failed.value.final
    assert not sandbox.smtp.asked


async def test_a_message_id_that_is_none_is_refused(mailer: Mailer) -> None:
    with pytest.raises(TaskFailed, match="no Message-ID"):
        await mailer.send(Mail("a@b.c", "Hello", "", "<a@b>\r\nBcc: evil@x.y"))


def test_the_same_mail_is_the_same_word_for_word() -> None:
    sender, at = Address(addr_spec=SENDER), datetime(2026, 11, 21, tzinfo=UTC)
    first, second = (message_of(mail_to(), sender=sender, at=at).as_bytes(policy=AS_SENT) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("customer", "address"),
    [
        ("Mr Cakelover", "mr_cakelover@gmail.com"),
        ("Zoë O'Brien\r\nBcc: evil@x.y", "zoe_o_brien_bcc_evil_x_y@gmail.com"),
        ("a@b.c, evil@x.y", "a_b_c_evil_x_y@gmail.com"),
        ("<script>", "script@gmail.com"),
        ("x" * 63 + " y z", "x" * 63 + "@gmail.com"),
    ],
)
def test_a_customers_address_is_made_of_his_name_whatever_that_is(customer: str, address: str) -> None:
    made = address_of(customer, domain="gmail.com")
    assert made == address
    assert message_of(mail_to(made), sender=Address(addr_spec=SENDER), at=datetime.now(UTC))


def test_of_a_name_that_cannot_be_spelled_no_address_is_made() -> None:
    with pytest.raises(Invalid):
        address_of(" .,- ", domain="gmail.com")


# what the server says


@pytest.mark.parametrize("step", ["name_sender", "name_recipient", "take_message"])
async def test_a_no_for_now_may_be_tried_again(sandbox: Sandbox, mailer: Mailer, step: str) -> None:
    sandbox.smtp.switch(route=step, status=451, times=1)
    with pytest.raises(UpstreamFailed, match="answered 451") as failed:
        await mailer.send(mail_to())
    assert not isinstance(failed.value, OutcomeUnknown)
    await mailer.send(mail_to())
    assert len(sandbox.smtp.messages) == 1
    assert outcomes_of(mailer) == {"refused": 1.0, "answered": 1.0}


@pytest.mark.parametrize("step", ["name_sender", "name_recipient", "take_message"])
async def test_a_no_for_good_is_final(sandbox: Sandbox, mailer: Mailer, step: str) -> None:
    sandbox.smtp.switch(route=step, status=550)
    with pytest.raises(UpstreamRefused, match="answered 550 The sandbox is switched to say so"):
        await mailer.send(mail_to())
    assert not sandbox.smtp.messages
    assert mailer.breaker.state is BreakerState.CLOSED


async def test_a_server_that_wants_nothing_of_us_says_nothing_of_this_mail(sandbox: Sandbox, mailer: Mailer) -> None:
    sandbox.smtp.switch(route="greet", status=554)
    with pytest.raises(UpstreamFailed, match="answered 554"):
        await mailer.send(mail_to())
    assert outcomes_of(mailer) == {"failed": 1.0}


@pytest.mark.parametrize("body", ["reset", "empty", "garbage"])
@pytest.mark.parametrize("takes_effect", [True, False])
async def test_nobody_knows_of_a_message_that_was_handed_over_without_an_answer(
    sandbox: Sandbox, mailer: Mailer, body: str, *, takes_effect: bool
) -> None:
    sandbox.smtp.switch(route="take_message", body=body, takes_effect=takes_effect, times=1)
    with pytest.raises(OutcomeUnknown):
        await mailer.send(mail_to())
    assert len(sandbox.smtp.messages) == takes_effect


async def test_nobody_knows_of_a_message_that_is_not_answered_in_time(sandbox: Sandbox) -> None:
    mailer = mailer_to(sandbox.smtp, deadline=timedelta(seconds=2))
    sandbox.smtp.switch(route="take_message", body="hang", takes_effect=True)
    with pytest.raises(OutcomeUnknown, match="did not answer within 2 s"):
        await mailer.send(mail_to())
    assert outcomes_of(mailer) == {"timeout": 1.0}


@pytest.mark.parametrize("step", ["greet", "name_sender", "name_recipient"])
@pytest.mark.parametrize("body", ["reset", "empty", "garbage"])
async def test_what_breaks_before_the_message_may_be_repeated(
    sandbox: Sandbox, mailer: Mailer, step: str, body: str
) -> None:
    sandbox.smtp.switch(route=step, body=body)
    with pytest.raises(UpstreamFailed) as failed:
        await mailer.send(mail_to())
    assert not isinstance(failed.value, OutcomeUnknown)


async def test_a_server_that_is_not_there_was_sent_nothing_and_is_left_alone_after_a_while(sandbox: Sandbox) -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
    mailer = Mailer(
        MailServer("127.0.0.1", port, SmtpSecurity.NONE), sender=SENDER, metrics=UpstreamMetrics(CollectorRegistry())
    )
    for _ in range(mailer.breaker.failures):
        with pytest.raises(UpstreamFailed, match="cannot be reached") as failed:
            await mailer.send(mail_to())
        assert not failed.value.was_sent
    with pytest.raises(Resting):
        await mailer.send(mail_to())
    assert mailer.last_error is not None
    assert not sandbox.smtp.messages


@pytest.mark.parametrize("fault", [{"body": "reset"}, {"body": "empty"}, {"body": "garbage"}, {"status": 421}])
async def test_a_mail_that_was_taken_is_sent_however_the_server_takes_its_leave(
    sandbox: Sandbox, mailer: Mailer, fault: dict[str, object]
) -> None:
    sandbox.smtp.switch(route="part", **fault)
    await mailer.send(mail_to())
    assert len(sandbox.smtp.messages) == 1
    assert outcomes_of(mailer) == {"answered": 1.0}


async def test_a_server_that_takes_no_leave_is_not_waited_for_long(sandbox: Sandbox, mailer: Mailer) -> None:
    sandbox.smtp.switch(route="part", body="hang")
    async with asyncio.timeout(DEADLINE.total_seconds()):
        await mailer.send(mail_to())
        await sandbox.smtp.ledger.until(lambda ledger: ledger.arrivals[-1].outcome is Outcome.CALLER_LEFT)
    assert len(sandbox.smtp.messages) == 1


async def test_only_so_many_are_in_flight_at_once(sandbox: Sandbox) -> None:
    mailer = mailer_to(sandbox.smtp, most=1)
    sandbox.smtp.switch(route="name_sender", body="hang")
    async with asyncio.timeout(DEADLINE.total_seconds()):
        first = asyncio.create_task(mailer.send(mail_to()))
        await sandbox.smtp.ledger.until(lambda ledger: ledger.counts["/name_sender"])
        with pytest.raises(Resting):
            await mailer.send(mail_to())
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert mailer.in_flight == 0
        await sandbox.smtp.ledger.until(lambda ledger: ledger.arrivals[-1].outcome is Outcome.CALLER_LEFT)
        sandbox.smtp.restore()
        await mailer.send(mail_to())


# who we are


async def test_a_password_that_is_not_taken_is_not_tried_again_for_a_while(sandbox: Sandbox) -> None:
    sandbox.smtp.password = "renewed"
    mailer = mailer_to(sandbox.smtp, password="old")
    with pytest.raises(Resting) as rest:
        await mailer.send(mail_to())
    assert rest.value.seconds == pytest.approx(300)
    tried = sandbox.smtp.asked["sign_in"]
    for _ in range(3):
        with pytest.raises(Resting):
            await mailer.send(mail_to())
    assert sandbox.smtp.asked["sign_in"] == tried
    assert "535" in str(mailer.last_error)
    assert "old" not in str(mailer.last_error)


async def test_a_server_that_wants_a_name_says_so_as_one_that_does_not_take_ours(
    sandbox: Sandbox, mailer: Mailer
) -> None:
    sandbox.smtp.switch(route="name_sender", status=530)
    with pytest.raises(Resting):
        await mailer.send(mail_to())
    assert mailer.breaker.state is BreakerState.OPEN


async def test_a_server_that_cannot_sign_in_anybody_now_is_asked_again(sandbox: Sandbox) -> None:
    mailer = mailer_to(sandbox.smtp, password="any")
    sandbox.smtp.switch(route="sign_in", status=454)
    with pytest.raises(UpstreamFailed):
        await mailer.send(mail_to())
    sandbox.smtp.restore()
    await mailer.send(mail_to())


async def test_the_check_signs_in_and_sends_nothing(sandbox: Sandbox) -> None:
    mailer = mailer_to(sandbox.smtp, password="any")
    assert await mailer.check() == f"127.0.0.1:{sandbox.smtp.port} as shop, from {SENDER}"
    assert sandbox.smtp.asked["ask_nothing"] == 1
    assert not sandbox.smtp.messages
    sandbox.smtp.password = "renewed"
    with pytest.raises(Resting):
        await mailer.check()


# encryption


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 127.0.0.1, with its key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + made.public_bytes(Encoding.PEM))
    return path


@asynccontextmanager
async def encrypted(certificate: Path, *, is_tls_first: bool) -> AsyncIterator[Smtp]:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    with listen(0) as listener:
        smtp = Smtp(listener, host="127.0.0.1", scale=1_000, tls=tls, is_tls_first=is_tls_first)
        async with smtp.open():
            yield smtp


@pytest.mark.parametrize(("security", "is_tls_first"), [(SmtpSecurity.STARTTLS, False), (SmtpSecurity.TLS, True)])
async def test_mail_is_encrypted_both_ways(certificate: Path, security: SmtpSecurity, *, is_tls_first: bool) -> None:
    trusted = ssl.create_default_context(cafile=certificate)
    async with encrypted(certificate, is_tls_first=is_tls_first) as smtp:
        await mailer_to(smtp, security=security, password="any", trusted=trusted).send(mail_to())
        assert len(smtp.messages) == 1


@pytest.mark.parametrize(("security", "is_tls_first"), [(SmtpSecurity.STARTTLS, False), (SmtpSecurity.TLS, True)])
async def test_a_server_that_cannot_prove_who_it_is_gets_nothing(
    certificate: Path, security: SmtpSecurity, *, is_tls_first: bool
) -> None:
    async with encrypted(certificate, is_tls_first=is_tls_first) as smtp:
        mailer = mailer_to(smtp, security=security, password="any")
        with pytest.raises(UpstreamFailed, match=r"(?i)certificate"):
            await mailer.send(mail_to())
        assert not smtp.asked["sign_in"]


async def test_a_server_that_offers_no_encryption_gets_nothing_where_it_is_wanted(sandbox: Sandbox) -> None:
    mailer = mailer_to(sandbox.smtp, security=SmtpSecurity.STARTTLS, password="any")
    with pytest.raises(UpstreamFailed, match="STARTTLS"):
        await mailer.send(mail_to())
    assert not sandbox.smtp.asked["sign_in"]
    assert not sandbox.smtp.messages


# from settings


async def test_it_is_opened_from_the_settings(sandbox: Sandbox) -> None:
    smtp = sandbox.smtp
    settings = Settings(
        smtp_host=smtp.host,
        smtp_port=smtp.port,
        smtp_security=SmtpSecurity.NONE,
        smtp_username="shop",
        smtp_password=SecretStr("any"),
        smtp_from=SENDER,
    )
    async with open_mailer(settings, UpstreamMetrics(CollectorRegistry())) as mailer:
        await mailer.send(mail_to())
    assert len(smtp.messages) == 1
    assert smtp.asked["sign_in"] == 1


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        (Settings(), "SMTP_HOST"),
        (Settings(smtp_host="127.0.0.1", smtp_from="Shop <orders@shop.example>"), "SMTP_FROM"),
        (
            Settings(
                smtp_host="mail.example",
                smtp_security=SmtpSecurity.NONE,
                smtp_username="shop",
                smtp_password=SecretStr("secret"),
            ),
            "in the clear",
        ),
    ],
)
async def test_what_is_missing_or_unsafe_is_said(settings: Settings, match: str) -> None:
    with pytest.raises(Misconfigured, match=match):
        async with open_mailer(settings, UpstreamMetrics(CollectorRegistry())):
            pass
