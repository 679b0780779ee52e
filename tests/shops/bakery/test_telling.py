"""Whose cake is ready is told so once: on Slack if he is there, else by mail, whatever goes wrong on the way."""

from pathlib import Path
from typing import Any

import pytest

from orderup.model.ids import read_id, show_id, show_task_id
from orderup.model.operation import Operation
from orderup.sandbox.slack import Message
from orderup.sandbox.smtp import Received
from orderup.shops.bakery import shop
from tests.serving import sqlite_url
from tests.shops.bakery.conftest import bake, order
from tests.shops.served import Served, serve_shop

FLAWED = [
    {"body": "reset", "takes_effect": True},
    {"status": 500, "takes_effect": True},
    {"status": 503, "takes_effect": True},
    {"body": "garbage", "takes_effect": True},
    {"body": "empty", "takes_effect": True},
    {"body": "reset"},
    {"status": 503},
    {"status": 429, "retry_after_seconds": 1},
]
FLAWS = [
    "done-then-reset",
    "done-then-internal-error",
    "done-then-503",
    "done-then-garbage",
    "done-then-empty",
    "reset",
    "503",
    "429",
]


async def ready(bakery: Served, **wishes: Any) -> tuple[int, int]:
    """An order that was placed and is ready: its number and its operation."""
    placed = (await order(bakery, **wishes)).json()
    answer = await bakery.client.post(f"{bakery.front}/orders/{placed['id']}/ready")
    assert answer.status_code == 200, answer.text
    found = (await bakery.client.get(f"{bakery.back}/api/operations?limit=500")).json()["operations"]
    return placed["id"], read_id(found[0]["id"])


async def told(bakery: Served, **wishes: Any) -> int:
    """Its number, once all is over that follows upon its being ready."""
    number, operation_id = await ready(bakery, **wishes)
    await bakery.until_stands(operation_id, lambda now: now.status == "completed")
    return number


async def until_task(bakery: Served, operation_id: int, status: str) -> Operation:
    return await bakery.until_stands(operation_id, lambda now: now.tasks[1].status == status)


async def error_of(bakery: Served, operation_id: int) -> str:
    """As staff reads it."""
    shown = await bakery.client.get(f"{bakery.back}/api/tasks/{show_task_id(operation_id, 1)}")
    error: str = shown.json()["error"]
    return error


def posts(bakery: Served) -> list[Message]:
    return bakery.sandbox.slack.messages


def mails(bakery: Served) -> list[Received]:
    return list(bakery.sandbox.smtp.messages)


# Who is found


@pytest.mark.parametrize(
    "customer",
    ["Mr Cakelover", "Mr. Cakelover", "MR CAKELOVER", "mr-cakelover!", "  Mr\u00a0 Cake\u00adlover ", "Cakelover"],
    ids=["real", "dotted", "capitals", "punctuation", "spaces", "display"],
)
async def test_a_customer_is_found_on_slack_by_either_of_his_names(one_bakery: Served, customer: str) -> None:
    number = await told(one_bakery, customer=customer)
    [post] = posts(one_bakery)
    assert post.text == f"Order {number} is ready: 2 × Chocolate Cake. Come and get it!"
    assert one_bakery.sandbox.slack.messages_to(next(_named(one_bakery, "Mr Cakelover"))) == [post]
    assert mails(one_bakery) == []


def _named(bakery: Served, name: str) -> Any:
    return (member for member in bakery.sandbox.slack.members.values() if member.real_name == name)


async def test_the_address_of_the_order_finds_one_of_two_of_the_same_name(one_bakery: Served) -> None:
    await told(one_bakery, customer="John Smith", email="John.Smith@example.com")
    [post] = posts(one_bakery)
    smithy = next(each for each in _named(one_bakery, "John Smith") if each.display_name == "smithy")
    assert one_bakery.sandbox.slack.messages_to(smithy) == [post]
    assert mails(one_bakery) == []


async def test_of_two_of_the_same_name_neither_is_guessed(one_bakery: Served) -> None:
    await told(one_bakery, customer="John Smith")
    assert posts(one_bakery) == []
    [mail] = mails(one_bakery)
    assert mail.recipients == ("john_smith@gmail.com",)


@pytest.mark.parametrize("customer", ["Grace Hopper", "orderup", "Slackbot"], ids=["left", "bot", "slackbot"])
async def test_who_has_left_slack_or_is_none_of_its_people_is_not_found_there(
    one_bakery: Served, customer: str
) -> None:
    await told(one_bakery, customer=customer)
    assert (len(posts(one_bakery)), len(mails(one_bakery))) == (0, 1)


async def test_a_guessed_address_is_told_nothing_of_the_order(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"bakery_mail_domain": "cakes.example", "smtp_from": "orders@bakery.example"}
    async with serve_shop(shop, sqlite_url(tmp_path), **settings) as bakery:
        await bake(bakery)
        await told(bakery, customer="Mr. Pie Lover", extra_ingredients={"peanuts": 10})
        [mail] = mails(bakery)
        assert (mail.sender, mail.recipients) == ("orders@bakery.example", ("mr_pie_lover@cakes.example",))
        assert mail.message["To"] == "mr_pie_lover@cakes.example"
        said = f"{mail.subject}\n{mail.text}".lower()
        assert [word for word in ("chocolate", "pie lover", "peanuts", "2 ×", "order 1", "#1") if word in said] == []
        assert "an order at our bakery is ready" in said
        assert posts(bakery) == []


async def test_the_orders_own_address_goes_before_the_guess_and_reads_all_of_it(one_bakery: Served) -> None:
    number = await told(one_bakery, customer="Mr. Pie Lover", email="pie@example.com")
    [mail] = mails(one_bakery)
    assert (mail.recipients, mail.message["To"]) == (("pie@example.com",), '"Mr. Pie Lover" <pie@example.com>')
    assert mail.text.startswith(f"Dear Mr. Pie Lover,\n\nyour order {number} of ")
    assert "2 × Chocolate Cake, for 4 each" in mail.text


async def test_who_is_ready_a_second_time_is_not_told_again(one_bakery: Served) -> None:
    number = await told(one_bakery)
    again = await one_bakery.client.post(f"{one_bakery.front}/orders/{number}/ready")
    assert again.status_code == 409, again.text
    await told(one_bakery, customer="Ada Lovelace")
    assert len(posts(one_bakery)) == 2


@pytest.mark.parametrize("email", ["a..b@example.com", ".a@example.com", "a@-example.com", f"{'a' * 65}@example.com"])
async def test_an_address_to_which_no_mail_could_be_sent_is_refused_with_the_order(
    one_bakery: Served, email: str
) -> None:
    answer = await order(one_bakery, email=email)
    assert answer.status_code == 422, answer.text
    assert "email" in answer.text


# Slack says no, or nothing


@pytest.mark.parametrize("says_no", ["cannot_dm_bot", "user_disabled", "user_not_found", "channel_not_found"])
async def test_who_slack_takes_no_message_for_gets_a_mail(one_bakery: Served, says_no: str) -> None:
    slack = one_bakery.sandbox.slack
    slack.says_no = says_no
    await told(one_bakery, email="mr@example.com")
    assert (len(posts(one_bakery)), len(mails(one_bakery))) == (0, 1)
    assert slack.asked["post_message"] == 0


@pytest.mark.parametrize("switch", FLAWED, ids=FLAWS)
async def test_nobody_knows_whether_a_message_was_posted_and_there_is_one(
    one_bakery: Served, switch: dict[str, Any]
) -> None:
    one_bakery.sandbox.slack.switch(route="post_message", times=1, **switch)
    number = await told(one_bakery)
    [post] = posts(one_bakery)
    assert f"Order {number} is ready" in post.text
    assert mails(one_bakery) == []


async def test_that_it_was_posted_is_found_although_the_first_look_fails_too(one_bakery: Served) -> None:
    slack = one_bakery.sandbox.slack
    slack.switch(route="post_message", times=1, body="reset", takes_effect=True)
    number, operation_id = await ready(one_bakery)
    await one_bakery.until_stands(operation_id, lambda now: now.tasks[1].failures == 1)
    slack.switch(route="read_messages", times=1, status=503)
    await one_bakery.until_stands(operation_id, lambda now: now.status == "completed")
    [post] = posts(one_bakery)
    assert f"Order {number}" in post.text
    assert slack.asked["post_message"] == 1


async def test_who_leaves_slack_while_nobody_knows_whether_he_was_told_gets_a_mail(one_bakery: Served) -> None:
    slack = one_bakery.sandbox.slack
    slack.switch(route="post_message", times=1, body="reset")
    _, operation_id = await ready(one_bakery)
    await slack.ledger.until(lambda _: slack.asked["post_message"] == 1)
    slack.says_no = "channel_not_found"  # before the next attempt, which may come at once
    await one_bakery.until_stands(operation_id, lambda now: now.status == "completed")
    assert (len(posts(one_bakery)), len(mails(one_bakery))) == (0, 1)


@pytest.mark.parametrize("says_no", ["token_revoked", "invalid_auth", "missing_scope", "account_inactive"])
async def test_a_token_that_slack_does_not_take_is_not_tried_again_and_again(one_bakery: Served, says_no: str) -> None:
    slack = one_bakery.sandbox.slack
    slack.says_no = says_no
    ids = [(await ready(one_bakery))[1] for _ in range(3)]
    for operation_id in ids:
        found = await until_task(one_bakery, operation_id, "waiting")
        assert found.tasks[1].failures == 0
    assert sum(slack.asked.values()) == 1
    assert mails(one_bakery) == []


# Mail


async def test_a_mail_that_was_taken_without_a_word_comes_twice_at_most_under_one_id(one_bakery: Served) -> None:
    one_bakery.sandbox.smtp.switch(route="take_message", times=1, body="reset", takes_effect=True)
    await told(one_bakery, customer="Nobody Here", email="nobody@example.com")
    first, second = mails(one_bakery)
    assert first.message_id == second.message_id
    assert first.text == second.text


@pytest.mark.parametrize(
    "switch",
    [
        {"route": "take_message", "body": "reset"},
        {"route": "take_message", "status": 451},
        {"route": "name_recipient", "status": 450},
        {"route": "name_sender", "status": 421},
        {"route": "greet", "body": "reset"},
        {"route": "greet", "body": "garbage"},
    ],
    ids=["cut-before", "451", "450", "421", "cut-at-once", "garbage"],
)
async def test_a_mail_server_that_cannot_now_gets_it_later_and_once(one_bakery: Served, switch: dict[str, Any]) -> None:
    one_bakery.sandbox.smtp.switch(times=1, **switch)
    await told(one_bakery, customer="Nobody Here")
    assert len(mails(one_bakery)) == 1


@pytest.mark.parametrize(("route", "status"), [("name_recipient", 550), ("take_message", 554), ("name_sender", 553)])
async def test_a_mail_that_is_refused_for_good_errors_the_order_and_staff_reads_why(
    one_bakery: Served, route: str, status: int
) -> None:
    one_bakery.sandbox.smtp.switch(route=route, status=status)
    _, operation_id = await ready(one_bakery, customer="Nobody Here")
    await one_bakery.until_stands(operation_id, lambda now: now.status == "errored")
    assert f"{status} The sandbox is switched to say so" in await error_of(one_bakery, operation_id)
    one_bakery.sandbox.smtp.restore()
    await one_bakery.client.post(f"{one_bakery.back}/api/operations/{show_id(operation_id)}/retry")
    await one_bakery.until_stands(operation_id, lambda now: now.status == "completed")
    assert len(mails(one_bakery)) == 1


async def test_a_mail_server_that_wants_other_credentials_is_not_tried_again_and_again(one_bakery: Served) -> None:
    smtp = one_bakery.sandbox.smtp
    smtp.switch(route="name_sender", status=530)
    ids = [(await ready(one_bakery, customer="Nobody Here"))[1] for _ in range(3)]
    for operation_id in ids:
        await until_task(one_bakery, operation_id, "waiting")
    assert smtp.asked["name_sender"] == 1
    assert mails(one_bakery) == []


# Names are only names

HEADERS = [
    "Auto-Submitted",
    "Content-Transfer-Encoding",
    "Content-Type",
    "Date",
    "From",
    "MIME-Version",
    "Message-ID",
    "Subject",
    "To",
]
NASTY = [
    "Eve\r\nBcc: all@example.com",
    "Eve\nSubject: Free cake\n\nCome",
    '"Eve" <eve@evil.example>, x',
    "<!channel> Eve <https://evil.example|click>",
    "<script>alert(1)</script> & Eve",
    "\u202eevE\u202c",
    "Eve 🎂\u2066\u2028Eve",
    "Эва",
    "=?utf-8?q?Eve=0D=0ABcc:_x@example.com?=",
    "Eve =?utf-8?b?CgpDb21lIGFuZCBwYXk=?= =?utf-8?q?=0A=0A?=",
]


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
async def test_what_a_customer_is_called_stays_a_name_in_his_mail(one_bakery: Served, name: str) -> None:
    await told(one_bakery, customer=name, email="eve@example.com")
    [mail] = mails(one_bakery)
    assert mail.recipients == ("eve@example.com",)
    assert sorted(mail.message.keys()) == HEADERS
    assert [each.addr_spec for each in mail.message["To"].addresses] == ["eve@example.com"]
    assert mail.subject == "Your cake is ready"
    assert mail.text.splitlines()[1] == ""
    assert mail.text.splitlines()[2].startswith("your order 1 of")
    assert not set(mail.text) & set("\u202e\u2066\u2028\r")
    assert mail.content.isascii()


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
async def test_who_has_no_address_is_written_to_at_one_that_letters_make(one_bakery: Served, name: str) -> None:
    await told(one_bakery, customer=name)
    [mail] = mails(one_bakery)
    [recipient] = mail.recipients
    assert recipient.endswith("@gmail.com")
    assert set(recipient.removesuffix("@gmail.com")) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
    assert [each.addr_spec for each in mail.message["To"].addresses] == [recipient]


@pytest.mark.parametrize(
    ("cake", "shown"),
    [
        ("<!channel> Cake", "&lt;!channel&gt; Cake"),
        ("Cake <https://evil.example|click>", "Cake &lt;https://evil.example|click&gt;"),
        ("Cake & Co\nOrder 7 is ready", "Cake &amp; Co Order 7 is ready"),
        ("\u202eekaC\u2067", "ekaC"),
        ("Cake 🎂", "Cake 🎂"),
    ],
)
async def test_what_a_cake_is_called_is_no_markup_on_slack(one_bakery: Served, cake: str, shown: str) -> None:
    made = (await bake(one_bakery, name=cake)).json()
    number = await told(one_bakery, recipe=made["id"], quantity=1)
    [post] = posts(one_bakery)
    assert post.text == f"Order {number} is ready: {shown}. Come and get it!"
