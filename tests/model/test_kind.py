from datetime import timedelta

import pytest

from orderup.errors import Misconfigured
from orderup.model.kind import Kind, Rate, read_rate


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("40/minute", 40, 60),
        ("1/second", 1, 1),
        ("5/10 seconds", 5, 10),
        ("100/1 hour", 100, 3600),
        ("3/2 days", 3, 172_800),
        (" 40 / minute ", 40, 60),
    ],
)
def test_a_rate_is_written_as_a_number_in_a_time(text: str, count: int, seconds: int) -> None:
    assert read_rate(text) == Rate(count, timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "text",
    ["", "40", "40/", "/minute", "0/minute", "-1/minute", "1.5/minute", "40/fortnight", "4/0 minutes", "4/a b c"],
)
def test_a_rate_that_is_not_understood_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Misconfigured, match='Write it like "40/minute"'):
        read_rate(text)


def test_a_kind_is_limited_by_a_rate_or_by_how_many_run_at_once() -> None:
    assert not Kind("bake").is_limited
    assert Kind("bake", rate=read_rate("1/second")).is_limited
    assert Kind("bake", concurrency=2).is_limited
