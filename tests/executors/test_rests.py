"""Queues that rest, and who looks whether they must go on doing so."""

from orderup.executors.rests import Rests


def test_who_looks_in_vain_leaves_the_queue_at_rest() -> None:
    rests = Rests()
    rests.rest(["shop/bake"], until=10.0)
    rests.begin_look("shop/bake", "look")
    rests.rest(["shop/bake"], until=20.0)
    assert rests.end_look("look") == "shop/bake"
    assert "shop/bake" in rests


def test_a_look_in_vain_that_is_stored_after_the_new_rest_ends_no_rest() -> None:
    """Else all that wait would begin at once, for a slow database."""
    rests = Rests()
    rests.rest(["shop/bake"], until=10.0)
    rests.begin_look("shop/bake", "look")
    rests.rest(["shop/bake"], until=20.0)
    assert rests.rested(now=30.0, rang=()) == []  # one at a time
    rests.end_look("look")
    assert rests.rested(now=30.0, rang=()) == ["shop/bake"]


def test_who_finds_the_third_party_back_ends_the_rest() -> None:
    rests = Rests()
    rests.rest(["shop/bake", "shop/fry"], until=10.0)
    rests.begin_look("shop/bake", "look")
    assert rests.end_look("look") == "shop/bake"
    assert "shop/bake" not in rests
    assert "shop/fry" in rests


def test_the_end_of_any_other_task_ends_no_rest() -> None:
    rests = Rests()
    rests.rest(["shop/bake"], until=10.0)
    assert rests.end_look("not a look") is None
    assert "shop/bake" in rests


def test_a_queue_with_nothing_to_look_with_rests_until_something_comes() -> None:
    """Those that wait may become due a moment later, all of them."""
    rests = Rests()
    rests.rest(["shop/bake"], until=10.0)
    assert rests.rested(now=10.0, rang=()) == ["shop/bake"]
    rests.is_empty("shop/bake")
    assert rests.rested(now=11.0, rang=()) == []
    assert "shop/bake" in rests
    assert rests.rested(now=12.0, rang={"shop/bake"}) == ["shop/bake"]


def test_after_a_new_rest_an_empty_queue_is_looked_into_once_more() -> None:
    """What came meanwhile has rung when nobody was let in."""
    rests = Rests()
    rests.rest(["shop/bake"], until=10.0)
    rests.is_empty("shop/bake")
    rests.rest(["shop/bake"], until=20.0)
    assert rests.rested(now=20.0, rang=()) == ["shop/bake"]
