"""What goes to a webhook, and what is made of its answers."""

import base64
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from orderup.errors import UpstreamFailed, UpstreamRefused
from orderup.integrations.webhook import Webhook, read_retry_after, signed_headers
from orderup.model.event import Event
from orderup.web.views import view_event
from tests.integrations.receiver import SECRET, Receiver, always
from tests.services.ports import free_port

EVENT = Event(7, 3, 1_772_366_400_000_000, "task.started", "diner", 0, "bake", "running", "Baking", 0, 12)


def test_it_is_signed_as_the_standards_own_example_is() -> None:
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers(
        key, id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1_614_265_330, body=b'{"test": 2432232314}'
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


async def test_an_event_arrives_as_the_live_feed_shows_it_and_signed() -> None:
    async with Receiver() as receiver, Webhook(receiver.url, SECRET, show=view_event) as webhook:
        await webhook.deliver(EVENT)
        await webhook.deliver(EVENT)
    assert receiver.forged == []
    assert [each.event for each in receiver.received] == [view_event(EVENT)] * 2
    assert len({each.id for each in receiver.received}) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 429, 500, 503])
async def test_any_answer_but_yes_and_gone_is_for_later(status: int) -> None:
    async with Receiver() as receiver, Webhook(receiver.url, SECRET, show=view_event) as webhook:
        receiver.answer = always(status, location="http://127.0.0.1:1/", retry_after="7")
        with pytest.raises(UpstreamFailed, match=f"answered {status}") as caught:
            await webhook.deliver(EVENT)
    assert caught.value.retry_after == timedelta(seconds=7)
    assert len(receiver.received) == 1


async def test_gone_is_for_good() -> None:
    async with Receiver() as receiver, Webhook(receiver.url, SECRET, show=view_event) as webhook:
        receiver.answer = always(410)
        with pytest.raises(UpstreamRefused):
            await webhook.deliver(EVENT)


async def test_nobody_there_is_for_later_and_the_address_is_not_told() -> None:
    async with Webhook(f"http://127.0.0.1:{free_port()}/canary?key=canary", SECRET, show=view_event) as webhook:
        with pytest.raises(UpstreamFailed, match="cannot be reached") as caught:
            await webhook.deliver(EVENT)
    assert "canary" not in str(caught.value)
    assert "canary" not in webhook.place


def test_a_rest_is_read_from_seconds_and_dates() -> None:
    assert read_retry_after("30") == timedelta(seconds=30)
    assert read_retry_after("soon") is None
    assert read_retry_after(None) is None
    assert read_retry_after("9" * 5_000) == timedelta(days=1)
    assert read_retry_after("Fri, 31 Dec 9999 23:59:59 GMT") == timedelta(days=1)
    assert read_retry_after("Fri, 31 Dec 9999 23:59:59 -1200") is None
    assert read_retry_after("²") is None
    assert read_retry_after(format_datetime(datetime.now(UTC) - timedelta(hours=1))) == timedelta(0)
    later = read_retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1)))
    assert later is not None
    assert timedelta(minutes=30) < later <= timedelta(hours=1)
