"""When a third party is left alone, and how it is asked whether it is back."""

from datetime import timedelta

import pytest

from orderup.integrations.breaker import Breaker, BreakerState

REST = 5.0


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=5, different=3, rest=timedelta(seconds=REST), monotonic=clock)


def open_it(breaker: Breaker) -> None:
    for number in range(5):
        assert breaker.ask() == 0
        breaker.failed(f"product {number}")
    assert breaker.state is BreakerState.OPEN


def test_it_opens_after_failures_in_a_row_and_says_when_to_come_again(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += 2
    assert breaker.ask() == pytest.approx(REST - 2)


def test_one_thing_that_fails_for_ever_says_nothing_of_the_others(breaker: Breaker) -> None:
    for _ in range(50):
        assert breaker.ask() == 0
        breaker.failed("veggie-box")
    assert breaker.state is BreakerState.CLOSED


def test_silence_counts_whatever_was_asked_for(breaker: Breaker) -> None:
    for _ in range(5):
        breaker.failed()
    assert breaker.state is BreakerState.OPEN


def test_an_answer_in_between_begins_anew(breaker: Breaker) -> None:
    for number in range(4):
        breaker.failed(number)
    breaker.succeeded()
    for number in range(4):
        breaker.failed(number)
    assert breaker.state is BreakerState.CLOSED


def test_once_it_has_rested_one_asks_and_the_others_wait(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += REST
    assert breaker.state is BreakerState.HALF_OPEN
    assert [breaker.ask(), breaker.ask(), breaker.ask()] == [0, REST, REST]
    breaker.succeeded()
    assert [breaker.ask(), breaker.ask()] == [0, 0]


def test_a_probe_that_fails_lets_it_rest_again(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += REST
    assert breaker.ask() == 0
    breaker.failed("product 9")
    assert breaker.state is BreakerState.OPEN
    assert breaker.ask() == REST


def test_a_probe_that_nobody_waits_for_any_more_makes_room_for_another(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += REST
    assert breaker.ask() == 0
    breaker.dropped()
    assert breaker.ask() == 0


def test_what_was_asked_before_it_opened_does_not_open_it_longer(breaker: Breaker, clock: Clock) -> None:
    open_it(breaker)
    clock.now += REST - 1
    breaker.failed("asked long ago")
    assert breaker.ask() == 1
