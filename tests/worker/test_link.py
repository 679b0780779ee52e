from datetime import timedelta
from random import Random

import pytest

from orderup.errors import Forbidden, Invalid, Refused, TooLarge, Unauthenticated, Unavailable
from orderup.worker.link import ClaimEnded, Patience, error_of, is_here


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, ClaimEnded),
        (405, Refused),
        (409, ClaimEnded),
        (410, ClaimEnded),
        (413, TooLarge),
        (422, Invalid),
        (301, Refused),
        (408, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_an_answer_means_what_the_back_meant_by_it(status: int, kind: type[Exception]) -> None:
    error = error_of(status, b'{"detail": "So it is."}')
    assert type(error) is kind
    assert str(error) == f"The server answered {status}: So it is."


@pytest.mark.parametrize("body", [b"<html>502</html>", b'["so"]', b'{"detail": 5}', b"\xff"])
def test_an_answer_of_somebody_else_is_quoted(body: bytes) -> None:
    assert str(error_of(502, body)) == f"The server answered 502: {body.decode(errors='replace')}"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("7", 7), (3, 3), (None, 0), ("Wed, 21 Oct 2026 07:28:00 GMT", 0), ("-5", 0), ("1e99", 0), ("86400", 300)],
)
def test_a_server_is_given_the_time_it_asks_for_within_reason(given: str | float | None, seconds: float) -> None:
    error = error_of(503, b"", retry_after=given)
    assert isinstance(error, Unavailable)
    assert error.retry_after == timedelta(seconds=seconds)


def test_who_is_not_answered_asks_less_and_less_often_up_to_a_limit() -> None:
    many = [Patience(Random(seed)) for seed in range(500)]
    away = Unavailable("No answer.", retry_after=timedelta(0))
    longest = [max(patience.seconds(away) for patience in many) for _ in range(12)]
    assert longest[0] <= 0.2
    assert longest[0] < longest[1] < longest[2] < longest[3]
    assert 4 < longest[-1] <= 5


def test_not_all_come_back_at_once() -> None:
    waits = {round(Patience(Random(seed)).seconds(Unavailable("No answer.")), 6) for seed in range(200)}
    assert len(waits) > 190
    assert min(waits) >= 2


@pytest.mark.parametrize(
    ("url", "is_so"),
    [
        ("http://localhost:8001", True),
        ("ws://127.0.0.1:8001/api/work", True),
        ("http://[::1]:8001", True),
        ("https://orders.example.com", False),
        ("http://localhost.example.com", False),
    ],
)
def test_a_server_on_this_machine_is_known_by_its_name(url: str, *, is_so: bool) -> None:
    assert is_here(url) == is_so
