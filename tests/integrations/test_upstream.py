"""One call to a third party, and how it is judged, whatever the other side does."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from orderup.errors import OutcomeUnknown, Resting, UpstreamFailed, UpstreamRefused
from orderup.integrations.breaker import Breaker
from orderup.integrations.upstream import IDLE_SECONDS, LARGEST_ANSWER_BYTES, Reply, Upstream, UpstreamMetrics
from tests.integrations.stranger import (
    Saying,
    Stranger,
    breaks_off,
    drips,
    floods,
    hangs,
    hangs_up,
    meet_stranger,
    resets,
    says,
)
from tests.services.ports import free_port
from tests.services.waiting import PATIENCE_SECONDS

# For a slow and busy machine; and what is meant to run out.
PATIENT, SOON = timedelta(seconds=90), timedelta(seconds=2)
BEYOND_TIME = "Fri, 31 Dec 9999 23:59:59 -1200"
REPEATABLE, SINGLE = ["GET", "PUT", "DELETE"], ["POST", "PATCH"]


class Letter(msgspec.Struct):
    id: int


class Watch:
    """Seconds, as a test turns them."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    async with meet_stranger() as stranger:
        yield stranger


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def watch() -> Watch:
    return Watch()


Open = Callable[..., Awaitable[Upstream]]


@pytest.fixture
async def open_upstream(stranger: Stranger, registry: CollectorRegistry, watch: Watch) -> AsyncIterator[Open]:
    """A function that makes an Upstream; with settings besides, if the test has some."""
    metrics = UpstreamMetrics(registry)
    async with AsyncExitStack() as opened:

        async def open_upstream(**given: object) -> Upstream:
            settings = {
                "metrics": metrics,
                "deadline": PATIENT,
                "most": 10,
                "breaker": Breaker(monotonic=watch),
                "base_url": stranger.url,
                **given,
            }
            return await opened.enter_async_context(Upstream("post office", **settings))  # type: ignore[arg-type]

        yield open_upstream


def counted(registry: CollectorRegistry, outcome: str) -> float | None:
    labels = {"upstream": "post office", "outcome": outcome}
    return registry.get_sample_value("orderup_upstream_calls_total", labels)


def gauge(registry: CollectorRegistry, name: str) -> float | None:
    return registry.get_sample_value(f"orderup_upstream_{name}", {"upstream": "post office"})


async def failure_of(upstream: Upstream, method: str, *, is_repeatable: bool | None = None) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as caught:
        await upstream.call(
            method,
            "/letters",
            about="letters",
            json={"to": "Zoë"},
            reads=lambda reply: reply.read(Letter),
            is_repeatable=is_repeatable,
        )
    return caught.value


# what is sent


async def test_a_call_says_what_it_was_given(open_upstream: Open, stranger: Stranger) -> None:
    upstream = await open_upstream(headers={"Authorization": "Bearer stamp", "Accept": "application/vnd.post+json"})
    await upstream.call("POST", "/v1/letters", about="letters", json={"to": "Zoë"}, query={"q": 'a "b" & c'})
    await upstream.call("POST", "/v1/token", about="token", form={"grant type": "a&b"}, headers={"X-One": "1"})
    letter, token = stranger.asked
    assert letter.line.replace("%20", "+") == "POST /base/v1/letters?q=a+%22b%22+%26+c"
    assert msgspec.json.decode(letter.body) == {"to": "Zoë"}
    assert letter.headers["content-type"] == "application/json"
    assert letter.headers["authorization"] == "Bearer stamp"
    assert letter.headers["accept"] == "application/vnd.post+json"
    assert letter.headers["user-agent"] == "orderup"
    assert (token.line, token.headers["x-one"]) == ("POST /base/v1/token", "1")
    assert token.headers["content-type"] == "application/x-www-form-urlencoded"
    assert token.body == b"grant+type=a%26b"


async def test_a_call_without_a_body_says_that_it_speaks_json_and_a_put_that_nothing_comes(
    open_upstream: Open, stranger: Stranger
) -> None:
    upstream = await open_upstream()
    await upstream.call("GET", "/letters", about="letters")
    await upstream.call("PUT", "/letters", about="letters")
    assert [each.headers["content-type"] for each in stranger.asked] == ["application/json"] * 2
    assert stranger.asked[1].headers["content-length"] == "0"


async def test_a_quoted_part_of_a_path_leads_nowhere_else(open_upstream: Open, stranger: Stranger) -> None:
    await (await open_upstream()).call("GET", "/letters/a%2F..%3Fb", about="letters")
    assert stranger.asked[0].line == "GET /base/letters/a%2F..%3Fb"


# what is answered


@pytest.mark.parametrize("status", [200, 201, 204, 400, 403, 404, 409, 422])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_yes_and_a_no_are_answers(open_upstream: Open, stranger: Stranger, status: int, method: str) -> None:
    stranger.says = says(status, b'{"id":7}', x_Left="5")
    reply = await (await open_upstream()).call(method, "/letters", about="letters")
    assert (reply.status, reply.is_success, reply.headers["x-left"]) == (status, status < 300, "5")
    assert reply.read(Letter) == (None if status == 204 else Letter(7))


async def test_a_no_can_be_passed_on_in_its_words_or_in_better_ones(open_upstream: Open, stranger: Stranger) -> None:
    upstream = await open_upstream()
    stranger.says = says(422, b"no \xff\n such   street" + b"!" * 1000)
    reply = await upstream.call("POST", "/letters", about="letters")
    with pytest.raises(UpstreamRefused, match="post office answered 422: no \ufffd such street!!!") as caught:
        upstream.refuse(reply)
    assert len(str(caught.value)) < 400
    with pytest.raises(UpstreamRefused, match=r"answered 422: Elm Street is closed$"):
        upstream.refuse(reply, because="Elm Street is closed")
    with pytest.raises(UpstreamRefused, match=r"answered 422$"):
        upstream.refuse(reply, because="")


async def test_a_question_is_answered_by_an_object_or_by_none(open_upstream: Open, stranger: Stranger) -> None:
    upstream = await open_upstream()
    stranger.says = says(200, b'{"price": 9.99}')
    found = await upstream.get("/letters/1", about="1")
    assert found is not None
    assert str(found["price"]) == "9.99"
    stranger.says = says(404)
    assert await upstream.get("/letters/1", about="1") is None
    stranger.says = says(403, b"no")
    with pytest.raises(UpstreamRefused, match="403: no"):
        await upstream.get("/letters/1", about="1")
    for nonsense in (b"[1]", b"NaN", b"\xff", b'{"a":', b"[" * 60_000):
        stranger.says = says(200, nonsense)
        with pytest.raises(UpstreamFailed, match="cannot be read"):
            await upstream.get("/letters/1", about="1")
        upstream.breaker.succeeded()


async def test_a_status_that_the_caller_judges_is_no_failure(open_upstream: Open, stranger: Stranger) -> None:
    upstream = await open_upstream()
    for status in (302, 401, 429, 500):
        stranger.says = says(status, retry_after="5")
        reply = await upstream.call("POST", "/letters", about="letters", judges={302, 401, 429, 500})
        assert reply.status == status
    assert upstream.breaker.ask() == 0


# what goes wrong

FAULTS = [
    pytest.param(hangs, "did not answer within 2 s", "timeout", id="hangs"),
    pytest.param(drips, "did not answer within 2 s", "timeout", id="drips"),
    pytest.param(hangs_up, "broke off", "unreachable", id="hangs up"),
    pytest.param(resets, "broke off", "unreachable", id="resets"),
    pytest.param(breaks_off, "broke off", "unreachable", id="breaks off"),
    pytest.param(says(500), "answered 500", "failed", id="500"),
    pytest.param(says(503), "answered 503", "failed", id="503"),
    pytest.param(says(302, location="http://127.0.0.1:1/"), "answered 302", "failed", id="302"),
    pytest.param(says(200, b"<html>"), "cannot be read", "failed", id="garbage"),
    pytest.param(says(200, b""), "cannot be read", "failed", id="empty"),
    pytest.param(says(200, b'{"id":"x"}'), "cannot be read", "failed", id="another shape"),
    pytest.param(floods, "more than an answer may have", "failed", id="floods"),
]


@pytest.mark.parametrize(("fault", "said", "outcome"), FAULTS)
@pytest.mark.parametrize("method", [*REPEATABLE, *SINGLE])
async def test_what_came_of_a_call_that_went_wrong_is_known_only_if_it_may_be_repeated(
    open_upstream: Open,
    stranger: Stranger,
    registry: CollectorRegistry,
    fault: Saying,
    said: str,
    outcome: str,
    method: str,
) -> None:
    stranger.says = fault
    upstream = await open_upstream(deadline=SOON if outcome == "timeout" else PATIENT)
    error = await failure_of(upstream, method)
    assert isinstance(error, OutcomeUnknown) is (method in SINGLE)
    assert said in str(error)
    assert "post office" in str(error)
    assert error.was_sent
    assert error.retry_after is None
    assert upstream.last_error is not None
    assert said in upstream.last_error
    assert counted(registry, outcome) == 1
    assert (upstream.in_flight, gauge(registry, "in_flight")) == (0, 0)
    # an HTTP library may repeat by itself what can be repeated, and nothing else
    assert len(stranger.asked) <= (1 if method in SINGLE else 2)


async def test_the_caller_may_say_whether_a_call_can_be_repeated(open_upstream: Open, stranger: Stranger) -> None:
    stranger.says = says(500)
    upstream = await open_upstream()
    assert not isinstance(await failure_of(upstream, "POST", is_repeatable=True), OutcomeUnknown)
    assert isinstance(await failure_of(upstream, "PUT", is_repeatable=False), OutcomeUnknown)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_never_was_sent_can_be_sent_again(
    open_upstream: Open, registry: CollectorRegistry, method: str
) -> None:
    upstream = await open_upstream(base_url=f"http://127.0.0.1:{free_port()}")
    error = await failure_of(upstream, method)
    assert not isinstance(error, OutcomeUnknown)
    assert not error.was_sent
    assert "cannot be reached" in str(error)
    assert counted(registry, "unreachable") == 1


async def test_an_answer_may_be_as_large_as_it_may_and_no_larger(open_upstream: Open, stranger: Stranger) -> None:
    upstream = await open_upstream()
    stranger.says = says(200, b" " * LARGEST_ANSWER_BYTES)
    assert len((await upstream.call("GET", "/letters", about="letters")).body) == LARGEST_ANSWER_BYTES
    stranger.says = says(200, b" " * (LARGEST_ANSWER_BYTES + 1))
    with pytest.raises(UpstreamFailed, match="more than an answer may have"):
        await upstream.call("GET", "/letters", about="letters")
    assert (await upstream.call("GET", "/letters", about="letters", largest=1 << 20)).status == 200


async def test_a_call_that_nobody_waits_for_any_more_is_hung_up(open_upstream: Open, stranger: Stranger) -> None:
    stranger.says = drips
    upstream = await open_upstream()
    async with asyncio.timeout(PATIENCE_SECONDS):
        asking = asyncio.create_task(upstream.call("GET", "/letters", about="letters"))
        await stranger.until_asked()
        assert upstream.in_flight == 1
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await stranger.left.wait()
    assert upstream.in_flight == 0
    assert upstream.last_error is None


async def test_a_connection_is_let_go_of_before_the_other_side_may_do_so(
    open_upstream: Open, stranger: Stranger
) -> None:
    """Whoever sends on one that is just being closed does not know whether it arrived."""
    upstream = await open_upstream()
    await upstream.call("POST", "/letters", about="letters")
    assert not stranger.left.is_set(), "others may use it for a while"
    async with asyncio.timeout(3 * IDLE_SECONDS):  # it looks every so often
        await stranger.left.wait()


# who asks for a rest


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_asks_for_a_rest_is_given_it(
    open_upstream: Open, stranger: Stranger, registry: CollectorRegistry, status: int, method: str
) -> None:
    upstream = await open_upstream()
    stranger.says = says(status, retry_after="17")
    error = await failure_of(upstream, method)
    # a 503 may be somebody's on the way, who does not know what became of the request behind him
    assert isinstance(error, OutcomeUnknown) == (status == 503 and method == "POST")
    assert error.retry_after == timedelta(seconds=17)
    assert error.pause_queue
    soon = datetime.now(UTC) + timedelta(hours=1)
    stranger.says = says(status, retry_after=format_datetime(soon, usegmt=True))
    error = await failure_of(upstream, method)
    assert error.retry_after is not None
    assert timedelta(minutes=50) < error.retry_after <= timedelta(hours=1)
    assert counted(registry, "refused") == 2


@pytest.mark.parametrize("answer", [says(429), says(429, retry_after="soon")])
async def test_too_many_without_a_time_is_a_short_rest(open_upstream: Open, stranger: Stranger, answer: Saying) -> None:
    stranger.says = answer
    assert (await failure_of(await open_upstream(), "POST")).retry_after == timedelta(seconds=1)


async def test_a_service_may_have_a_way_of_its_own_to_ask_for_a_rest(open_upstream: Open, stranger: Stranger) -> None:
    def rest(reply: Reply) -> timedelta | None:
        return timedelta(minutes=3) if reply.headers.get("x-tired") == "yes" else None

    upstream = await open_upstream(rest=rest)
    stranger.says = says(403, x_tired="yes")
    error = await failure_of(upstream, "POST")
    assert (error.retry_after, isinstance(error, OutcomeUnknown)) == (timedelta(minutes=3), False)
    stranger.says = says(403)
    assert (await upstream.call("POST", "/letters", about="letters")).status == 403
    stranger.says = says(429, retry_after="5")
    assert (await upstream.call("POST", "/letters", about="letters")).status == 429


# who is left alone


async def test_who_does_not_take_our_credentials_is_not_asked_for_five_minutes(
    open_upstream: Open, stranger: Stranger, registry: CollectorRegistry, watch: Watch
) -> None:
    upstream = await open_upstream()
    stranger.says = says(401)
    for seconds_later, left in ((0, 300), (0, 300), (100, 200), (199, 1)):
        watch.now += seconds_later
        with pytest.raises(Resting) as caught:
            await upstream.call("POST", "/letters", about="letters")
        assert caught.value.seconds == pytest.approx(left)
    assert len(stranger.asked) == 1
    assert counted(registry, "refused") == 1
    assert gauge(registry, "breaker_open") == 1
    assert upstream.last_error is not None
    assert "credentials (401)" in upstream.last_error
    watch.now += 1
    stranger.says = says(200)
    assert (await upstream.call("POST", "/letters", about="letters")).status == 200
    assert (await upstream.call("POST", "/letters", about="letters")).status == 200
    assert gauge(registry, "breaker_open") == 0


async def test_who_refuses_us_again_after_the_rest_has_another_one(
    open_upstream: Open, stranger: Stranger, watch: Watch
) -> None:
    upstream = await open_upstream()
    stranger.says = says(401)
    for _ in range(3):
        with pytest.raises(Resting):
            await upstream.call("GET", "/letters", about="letters")
        watch.now += 301
    assert len(stranger.asked) == 3


async def test_a_client_that_learns_of_it_in_another_way_gives_the_same_rest(
    open_upstream: Open, stranger: Stranger
) -> None:
    upstream = await open_upstream()
    assert upstream.unknown_to_it().seconds == 300
    with pytest.raises(Resting):
        await upstream.call("GET", "/letters", about="letters")
    assert stranger.asked == []


async def test_who_is_down_is_left_alone_until_one_who_looks_finds_him_back(
    open_upstream: Open, stranger: Stranger, registry: CollectorRegistry, watch: Watch
) -> None:
    upstream = await open_upstream()
    stranger.says = hangs_up
    for _ in range(4):
        await failure_of(upstream, "GET")
    with pytest.raises(Resting) as shown:  # the one that has shown it has not failed any more than those that wait
        await upstream.call("GET", "/letters", about="letters")
    assert (shown.value.is_down, shown.value.was_sent) == (True, True)
    asked = len(stranger.asked)
    with pytest.raises(Resting):
        await upstream.call("GET", "/letters", about="letters")
    assert len(stranger.asked) == asked
    assert gauge(registry, "breaker_open") == 1
    watch.now += 6
    assert gauge(registry, "breaker_open") == 0.5
    stranger.says = says(200)
    assert (await upstream.call("GET", "/letters", about="letters")).status == 200
    assert gauge(registry, "breaker_open") == 0


@pytest.mark.parametrize(
    "answer",
    [says(429, retry_after="9" * 4_500), says(429, retry_after="²"), says(429, retry_after=BEYOND_TIME)],
    ids=["digits", "odd digit", "date"],
)
async def test_who_is_down_and_found_back_by_a_strange_answer_is_asked_again(
    open_upstream: Open, stranger: Stranger, watch: Watch, answer: Saying
) -> None:
    upstream = await open_upstream()
    upstream.breaker.open(timedelta(seconds=5))
    watch.now += 6
    stranger.says = answer
    rest = (await failure_of(upstream, "GET")).retry_after
    assert rest is not None
    assert rest <= timedelta(days=1)
    stranger.says = says(200)
    assert (await upstream.call("GET", "/letters", about="letters")).status == 200


async def test_whoever_asked_before_lets_nobody_in_beside_the_one_who_looks(
    open_upstream: Open, stranger: Stranger, watch: Watch
) -> None:
    async def waits(_writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    upstream = await open_upstream()
    stranger.says = waits
    before = asyncio.create_task(upstream.call("GET", "/letters", about="letters"))
    await stranger.until_asked(1)
    upstream.breaker.open(timedelta(seconds=5))
    watch.now += 6
    looks = asyncio.create_task(upstream.call("GET", "/letters", about="letters"))
    await stranger.until_asked(2)
    before.cancel()
    await asyncio.wait([before])
    with pytest.raises(Resting):
        await upstream.call("GET", "/letters", about="letters")
    looks.cancel()
    await asyncio.wait([looks])


async def test_whoever_breaks_off_while_he_looks_leaves_the_look_to_the_next(
    open_upstream: Open, stranger: Stranger, watch: Watch
) -> None:
    def stumble(_reply: Reply) -> object:
        raise ZeroDivisionError

    upstream = await open_upstream()
    upstream.breaker.open(timedelta(seconds=5))
    watch.now += 6
    stranger.says = says(200)
    with pytest.raises(ZeroDivisionError):
        await upstream.call("GET", "/letters", about="letters", reads=stumble)
    assert (await upstream.call("GET", "/letters", about="letters")).status == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_is_late_for_its_time_is_not_sent(open_upstream: Open, stranger: Stranger, method: str) -> None:
    upstream = await open_upstream()
    await upstream.call(method, "/letters", about="letters", json={})  # there is a connection that can be used at once
    for _ in range(3):
        with pytest.raises(UpstreamFailed):
            await upstream.call(method, "/letters", about="letters", ends_at=time.monotonic() + 1e-9)
    assert len(stranger.asked) == 1


async def test_no_more_calls_are_under_way_than_may_be(open_upstream: Open, stranger: Stranger) -> None:
    let_go = asyncio.Event()

    async def waits(writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        await says(200)(writer)

    stranger.says = waits
    upstream = await open_upstream(most=2)
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        asking = [group.create_task(upstream.call("GET", "/letters", about="letters")) for _ in range(2)]
        await stranger.until_asked(2)
        rests = []
        for _ in range(400):
            with pytest.raises(Resting) as turned_away:
                await upstream.call("GET", "/letters", about="letters")
            rests.append(turned_away.value.seconds)
        assert len(stranger.asked) == 2
        # not all of them at once again
        assert 1 <= rests[0] < 2
        assert 40 < rests[-1] < 60
        let_go.set()
    assert [task.result().status for task in asking] == [200, 200]
