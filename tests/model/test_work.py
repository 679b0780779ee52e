"""Odd ends of what workers may send, decided without a database. What each verb does is told in tests/engine."""

import pytest

from orderup.errors import NotFound, StaleToken
from orderup.model.operation import Draft
from orderup.model.placing import encode
from orderup.model.work import check_token, complete, storable
from tests.model.arrows import NOW, PLANS, TOKEN, placed


def test_an_error_is_kept_in_words_that_every_database_can_hold() -> None:
    assert storable("Ofen kaputt: \0") == "Ofen kaputt: \N{REPLACEMENT CHARACTER}"
    assert storable("half a character: \ud83c") == "half a character: ?"
    assert storable("x" * 10_000) == "x" * 2_000


@pytest.mark.parametrize("position", [1, 99, 10**7])
def test_a_task_beyond_the_plan_does_not_exist(position: int) -> None:
    draft = placed(PLANS[0])
    with pytest.raises(NotFound, match=f"There is no task 0000000000001-{position}"):
        complete(draft, position, token=TOKEN, result=None, now=NOW, answer="a")


def test_a_token_is_of_no_use_before_the_task_runs() -> None:
    draft = Draft(placed(PLANS[1]).result())
    with pytest.raises(StaleToken, match="this claim has ended and the task is pending"):
        check_token(draft, 0, TOKEN)


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, "\ud800", {"\udfff": 1}])
def test_what_json_cannot_hold_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_what_holds_itself_is_a_type_error() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(TypeError):
        encode(endless)
