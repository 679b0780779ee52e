"""What a mail program sees that talks to the sandbox's mail server, and what the inbox shows of it."""

import asyncio
from collections.abc import AsyncIterator
from email.message import EmailMessage

import aiosmtplib
import httpx2
import pytest

from orderup.sandbox import Outcome, Sandbox, serve_sandbox
from orderup.sandbox.border import Refused
from orderup.sandbox.smtp import LARGEST_MAIL, MOST_MAILS
from tests.services.waiting import PATIENCE_SECONDS


def a_mail(*, subject: str = "Hello", text: str = "World\n.\nend") -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"], mail["Message-ID"] = "a@b.example", "c@d.example", subject, "<1@b>"
    mail.set_content(text)
    return mail


async def send(
    sandbox: Sandbox, mail: EmailMessage, *, username: str | None = None, password: str | None = None
) -> None:
    await aiosmtplib.send(
        mail,
        hostname=sandbox.smtp.host,
        port=sandbox.smtp.port,
        username=username,
        password=password,
        start_tls=False,
        timeout=PATIENCE_SECONDS,
    )


@pytest.fixture
async def visitor(sandbox: Sandbox) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=f"{sandbox.base_url}/smtp", follow_redirects=True, timeout=PATIENCE_SECONDS
    ) as client:
        yield client


async def test_a_mail_is_kept_as_it_came(sandbox: Sandbox) -> None:
    await send(sandbox, a_mail(subject="Grüße"))
    [received] = sandbox.smtp.messages
    assert (received.sender, received.recipients) == ("a@b.example", ("c@d.example",))
    assert (received.subject, received.text, received.message_id) == ("Grüße", "World\n.\nend\n", "<1@b>")


async def test_it_has_a_port_of_its_own_after_the_others(sandbox: Sandbox) -> None:
    assert sandbox.smtp.port != int(sandbox.base_url.rpartition(":")[2])
    async with serve_sandbox() as other:
        await send(other, a_mail())
        assert not sandbox.smtp.messages


@pytest.mark.parametrize("step", ["greet", "name_sender", "name_recipient", "take_message"])
@pytest.mark.parametrize("status", [450, 550])
async def test_each_step_can_be_refused_and_then_nothing_is_kept(sandbox: Sandbox, step: str, status: int) -> None:
    sandbox.smtp.switch(route=step, status=status)
    with pytest.raises((aiosmtplib.SMTPResponseException, aiosmtplib.SMTPRecipientsRefused)) as refused:
        await send(sandbox, a_mail())
    assert str(status) in str(refused.value.args)
    assert not sandbox.smtp.messages
    assert sandbox.smtp.asked[step] == (2 if step == "greet" else 1)  # EHLO, and then HELO
    sandbox.smtp.restore()
    await send(sandbox, a_mail())
    assert len(sandbox.smtp.messages) == 1


@pytest.mark.parametrize("body", ["reset", "empty", "garbage"])
@pytest.mark.parametrize("takes_effect", [True, False])
async def test_a_mail_may_be_kept_before_the_connection_breaks(
    sandbox: Sandbox, body: str, *, takes_effect: bool
) -> None:
    sandbox.smtp.switch(route="take_message", body=body, takes_effect=takes_effect)
    with pytest.raises(aiosmtplib.SMTPException):
        await send(sandbox, a_mail())
    assert len(sandbox.smtp.messages) == takes_effect


async def test_who_leaves_while_it_hangs_is_noted(sandbox: Sandbox) -> None:
    sandbox.smtp.switch(route="greet", body="hang")
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, writer = await asyncio.open_connection("127.0.0.1", sandbox.smtp.port)
        writer.write(b"EHLO me\r\n")
        await sandbox.smtp.ledger.until(lambda ledger: ledger.counts["/greet"])
        writer.close()
        await writer.wait_closed()
        await sandbox.smtp.ledger.until(lambda ledger: ledger.arrivals[-1].outcome is Outcome.CALLER_LEFT)


async def test_it_ends_at_once_though_somebody_waits() -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with serve_sandbox() as sandbox:
            sandbox.smtp.switch(route="name_sender", delay_seconds=3600)
            sending = asyncio.create_task(send(sandbox, a_mail()))
            await sandbox.smtp.ledger.until(lambda ledger: ledger.counts["/name_sender"])
        with pytest.raises(aiosmtplib.SMTPException):
            await sending


async def test_any_password_will_do_unless_one_is_set(sandbox: Sandbox) -> None:
    await send(sandbox, a_mail(), username="a", password="b")
    sandbox.smtp.password = "c"
    with pytest.raises(aiosmtplib.SMTPAuthenticationError) as refused:
        await send(sandbox, a_mail(), username="a", password="b")
    assert refused.value.code == 535
    await send(sandbox, a_mail(), username="a", password="c")
    assert len(sandbox.smtp.messages) == 2


async def test_what_is_kept_has_an_end(sandbox: Sandbox) -> None:
    with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
        await send(sandbox, a_mail(text="x" * 70 + "\n" + ("y" * 70 + "\n") * (LARGEST_MAIL // 70)))
    assert refused.value.code == 552
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=sandbox.smtp.port, start_tls=False) as client:
        for number in range(MOST_MAILS + 1):
            await client.send_message(a_mail(subject=f"No. {number}"))
    assert len(sandbox.smtp.messages) == MOST_MAILS
    assert sandbox.smtp.messages[0].subject == "No. 1"


@pytest.mark.parametrize("given", [{"body": "drip"}, {"body": "huge"}, {"status": 301}, {"route": "unheard_of"}])
async def test_what_a_mail_server_cannot_do_is_no_switch_of_it(sandbox: Sandbox, given: dict[str, object]) -> None:
    with pytest.raises(Refused):
        sandbox.smtp.switch(**given)
    assert sandbox.smtp.behaviour.is_honest


async def test_the_inbox_shows_mails_as_text_newest_first(sandbox: Sandbox, visitor: httpx2.AsyncClient) -> None:
    assert "Nothing came yet." in (await visitor.get("/")).text
    await send(sandbox, a_mail(subject="<b>one</b>", text="<script>alert(1)</script>"))
    await send(sandbox, a_mail(subject="two"))
    page = (await visitor.get("/")).text
    assert page.index("two") < page.index("&lt;b&gt;one&lt;/b&gt;")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page
    assert f"127.0.0.1:{sandbox.smtp.port}" in page


async def test_a_mail_that_is_none_does_not_break_the_inbox(sandbox: Sandbox, visitor: httpx2.AsyncClient) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=sandbox.smtp.port, start_tls=False) as client:
        for content in (
            b"",
            b"\xff\x00\r\n",
            b"Content-Type: text/plain; charset=none\r\n\r\n\xff",
            b"Subject: =?x?y?=",
        ):
            await client.sendmail("a@b.example", ["c@d.example"], content)
    assert len(sandbox.smtp.messages) == 4
    assert (await visitor.get("/")).status_code == 200


async def test_the_form_switches_a_step(sandbox: Sandbox, visitor: httpx2.AsyncClient) -> None:
    page = await visitor.post("/behaviour", data={"route": "name_recipient", "status": "450", "times": "2"})
    assert page.status_code == 200
    assert (sandbox.smtp.behaviour.route, sandbox.smtp.behaviour.times) == ("name_recipient", 2)
    refused = await visitor.post("/behaviour", data={"body": "drip"})
    assert refused.status_code == 422
    assert sandbox.smtp.behaviour.status == 450
