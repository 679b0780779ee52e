"""The bell: whoever waits for tasks is woken when there may be some."""

from orderup.engine.bell import Bell

QUEUES = ("diner/bake", "diner/bake@rome")


async def test_a_new_listener_has_heard_of_what_was_there_before_it() -> None:
    ear = Bell().listen(QUEUES)
    assert await ear.wait(None)
    assert ear.rang == set(QUEUES)


async def test_a_listener_hears_of_its_own_queues_only() -> None:
    bell = Bell()
    ear = bell.listen(QUEUES)
    ear.clear()
    bell.ring(["diner/dough", "diner/bake@paris"])
    assert not await ear.wait(0)
    bell.ring(["diner/bake@rome"])
    assert await ear.wait(None)
    assert ear.rang == {"diner/bake@rome"}


async def test_room_in_a_queue_is_heard_of_in_all_its_regions_by_everybody() -> None:
    bell = Bell()
    here, rome, other = bell.listen(QUEUES), bell.listen(["diner/bake@rome"]), bell.listen(["diner/dough"])
    for ear in (here, rome, other):
        ear.clear()
    bell.ring_all_regions({"diner/bake"})
    assert (here.rang, rome.rang, other.rang) == (set(QUEUES), {"diner/bake@rome"}, set())


async def test_a_ring_for_all_reaches_everybody_once_for_each_of_its_queues() -> None:
    bell = Bell()
    ears = [bell.listen(QUEUES), bell.listen(["diner/dough"])]
    for ear in ears:
        ear.clear()
    bell.ring_all()
    assert [ear.rang for ear in ears] == [set(QUEUES), {"diner/dough"}]


async def test_who_leaves_hears_nothing_more_and_the_others_do() -> None:
    bell = Bell()
    ann, bob = bell.listen(QUEUES), bell.listen(QUEUES)
    for ear in (ann, bob):
        ear.clear()
    bell.leave(ann)
    bell.ring(QUEUES)
    assert (ann.rang, bob.rang) == (set(), set(QUEUES))
    bell.leave(bob)
    bell.ring_all()


async def test_who_waits_for_a_time_in_vain_is_told_so() -> None:
    ear = Bell().listen(QUEUES)
    ear.clear()
    assert not await ear.wait(0.001)
