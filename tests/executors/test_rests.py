"""Third parties that rest, and who looks whether they must go on doing so."""

from orderup.executors.rests import Rest, Rests

OVEN = ("shop/bake", "shop/fry")


def resting(until: float = 10.0) -> tuple[Rests, Rest]:
    rests = Rests()
    rests.rest(OVEN, until=until)
    [rest] = rests.over(now=until, rang=())
    return rests, rest


def may_look(rests: Rests, *, now: float, rang: tuple[str, ...] = ()) -> bool:
    return bool(rests.over(now=now, rang=rang))


def test_all_that_ask_it_rest_together_and_one_looks_for_all() -> None:
    rests, rest = resting()
    assert all(queue in rests for queue in OVEN)
    assert not may_look(rests, now=9.0)
    rests.begin_look(rest, "look", gives_up_at=100.0)
    assert not may_look(rests, now=11.0)
    assert rests.end_look("look", is_back=True) == OVEN
    assert not any(queue in rests for queue in OVEN)
    assert not rests


def test_a_look_in_vain_ends_no_rest_however_late_it_is_stored() -> None:
    """Else all that wait would begin at once, for a slow database."""
    rests, rest = resting()
    rests.begin_look(rest, "look", gives_up_at=100.0)
    rests.rest(OVEN, until=20.0)
    rests.end_look("look")
    assert all(queue in rests for queue in OVEN)
    assert not may_look(rests, now=19.0)
    assert may_look(rests, now=30.0)


def test_a_look_that_began_before_others_failed_ends_no_rest() -> None:
    """It was renewed while the look was claimed, and by the very same time."""
    rests, rest = resting()
    rests.rest(OVEN, until=10.0)
    rests.begin_look(rest, "look", gives_up_at=100.0)
    rests.end_look("look", is_back=True)
    assert all(queue in rests for queue in OVEN)


def test_a_look_that_found_nothing_out_leaves_it_to_the_next() -> None:
    rests, rest = resting()
    rests.begin_look(rest, "look", gives_up_at=100.0)
    assert rests.end_look("look") == OVEN
    assert may_look(rests, now=11.0)
    assert "shop/bake" in rests


def test_a_look_that_does_not_end_is_waited_for_until_its_time_is_up() -> None:
    rests, rest = resting()
    rests.begin_look(rest, "look", gives_up_at=30.0)
    assert rests.left(now=12.0) == [18.0]
    assert may_look(rests, now=30.0)
    rests.begin_look(rest, "another", gives_up_at=50.0)
    rests.end_look("look")
    assert not may_look(rests, now=31.0)


def test_the_end_of_any_other_task_ends_no_rest() -> None:
    rests, _ = resting()
    assert rests.end_look("not a look", is_back=True) == ()
    assert "shop/bake" in rests


def test_with_nothing_to_look_with_it_rests_until_something_comes_into_any_of_its_queues() -> None:
    """Those that wait may become due a moment later, all of them."""
    rests, rest = resting()
    rest.is_empty = True
    assert not may_look(rests, now=11.0)
    assert not may_look(rests, now=11.0, rang=("shop/box",))
    assert may_look(rests, now=12.0, rang=("shop/fry",))
    assert rests.left(now=12.0) == []


def test_after_a_new_rest_one_that_was_empty_is_looked_at_once_more() -> None:
    """What came meanwhile has rung when nobody was let in, even while it was found empty."""
    rests, rest = resting()
    rests.rest(OVEN, until=20.0)
    rest.is_empty = True
    assert may_look(rests, now=20.0)
