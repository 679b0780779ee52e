from datetime import timedelta
from random import Random

import pytest
from hypothesis import given, settings, strategies

from orderup.errors import Misconfigured
from orderup.model.retry import NEVER, NoMoreAttempts, Retry, backoff

SECOND = timedelta(seconds=1)
RETRY = Retry(attempts=10, first=SECOND, longest=timedelta(seconds=60))


def waits(retry: Retry, *, failures: int, seed: int = 7) -> list[timedelta]:
    random = Random(seed)
    return [backoff(retry, failures=failures, random=random) for _ in range(1_000)]


@pytest.mark.parametrize(("failures", "ceiling"), [(1, 1), (2, 2), (3, 4), (4, 8), (6, 32), (7, 60), (9, 60)])
def test_the_wait_lies_anywhere_below_a_ceiling_that_doubles_up_to_the_longest(failures: int, ceiling: int) -> None:
    seconds = [wait.total_seconds() for wait in waits(RETRY, failures=failures)]
    assert 0 <= min(seconds) < ceiling * 0.05
    assert ceiling * 0.95 < max(seconds) <= ceiling


def test_a_hundred_tasks_that_failed_together_do_not_come_back_together() -> None:
    assert len(set(waits(RETRY, failures=3))) > 990


def test_the_same_seed_gives_the_same_waits() -> None:
    assert waits(RETRY, failures=3, seed=1) == waits(RETRY, failures=3, seed=1)
    assert waits(RETRY, failures=3, seed=1) != waits(RETRY, failures=3, seed=2)


def test_after_the_last_attempt_there_is_no_wait() -> None:
    assert backoff(Retry(attempts=3), failures=2, random=Random(7)) >= timedelta(0)
    with pytest.raises(NoMoreAttempts):
        backoff(Retry(attempts=3), failures=3, random=Random(7))
    with pytest.raises(NoMoreAttempts):
        backoff(NEVER, failures=1, random=Random(7))


@settings(deadline=None)
@given(
    failures=strategies.integers(1, 10**6),
    first=strategies.timedeltas(timedelta(0), timedelta(days=30)),
    more=strategies.timedeltas(timedelta(0), timedelta(days=365)),
)
def test_no_policy_and_no_number_of_failures_leads_beyond_the_longest(
    failures: int, first: timedelta, more: timedelta
) -> None:
    retry = Retry(attempts=10**7, first=first, longest=first + more)
    assert timedelta(0) <= backoff(retry, failures=failures, random=Random(failures)) <= retry.longest


@pytest.mark.parametrize("attempts", [0, -1])
def test_less_than_one_attempt_makes_no_sense(attempts: int) -> None:
    with pytest.raises(Misconfigured, match="at least 1"):
        Retry(attempts=attempts)


@pytest.mark.parametrize(("first", "longest"), [(2 * SECOND, SECOND), (-SECOND, SECOND)])
def test_the_first_wait_is_neither_negative_nor_longer_than_the_longest(first: timedelta, longest: timedelta) -> None:
    with pytest.raises(Misconfigured, match="0 <= first <= longest"):
        Retry(first=first, longest=longest)
