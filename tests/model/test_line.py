"""The line of a queue whose clients take turns, and the same against a model that looks at everybody each time."""

import pickle
from collections.abc import Sequence

from hypothesis import given, strategies as st

from orderup.model.line import Line, Place, rank_of


def queue(most: int | None, *clients: str) -> Line:
    """Those clients, one order each, came one after the other."""
    line = Line(most)
    for number, client in enumerate(clients):
        line.add((number, 0), client=client, rank=rank_of(priority=0, since=number, came_back=False))
    return line


def served(line: Line, clients: Sequence[str]) -> str:
    return "".join(clients[number] for number, _ in line.order())


def test_oldest_first_while_nobody_has_more_than_his_share() -> None:
    clients = "aaabcbb"
    assert served(queue(3, *clients), clients) == clients


def test_who_has_more_takes_turns_with_the_others() -> None:
    clients = "aaaaaabc"
    # a, b and a third client: as long as a has more than three waiting, each has his turn
    assert served(queue(3, *clients), clients) == "abcaaaaa"


def test_the_turns_of_others_go_to_the_oldest_of_them() -> None:
    clients = "aaaaaabbc"
    assert served(queue(3, *clients), clients) == "abbacaaa" + "a"


def test_two_with_more_take_turns_with_each_other() -> None:
    clients = "aaaaaabbbbbb"
    assert served(queue(1, *clients), clients).startswith("abababab")


def test_once_he_has_no_more_than_his_share_the_oldest_is_first_again() -> None:
    clients = "aaaabbb"
    assert served(queue(3, *clients), clients) == "aaaabbb"
    clients = "aaaaabbb"
    assert served(queue(3, *clients), clients) == "abaaaabb"


def test_one_with_thousands_delays_many_others_by_one_turn_each_round() -> None:
    clients = ["a"] * 1000 + [f"r{number}" for number in range(150)]
    order = [clients[number] for number, _ in queue(20, *clients).order()]
    last_regular = max(index for index, client in enumerate(order) if client != "a")
    assert last_regular <= 160


def test_without_turns_the_oldest_is_always_first() -> None:
    clients = "aaaaaabc"
    assert served(queue(None, *clients), clients) == clients


def test_what_came_back_goes_before_all() -> None:
    clients = "aaaaaab"
    line = queue(3, *clients)
    line.add((9, 0), client="c", rank=rank_of(priority=5, since=99, came_back=True))
    assert line.take() == (9, 0)


def test_priority_goes_before_age() -> None:
    line = Line(20)
    line.add((1, 0), client="a", rank=rank_of(priority=0, since=1, came_back=False))
    line.add((2, 0), client="a", rank=rank_of(priority=-1, since=2, came_back=False))
    assert line.take() == (2, 0)


def test_who_leaves_is_not_served() -> None:
    line = queue(20, "a", "b", "c")
    assert line.remove((1, 0))
    assert not line.remove((1, 0))
    assert [line.take(), line.take(), line.take()] == [(0, 0), (2, 0), None]


def test_the_books_do_not_grow_with_those_who_came_and_went() -> None:
    line = Line(2)
    for number in range(10_000):
        line.add((number, 0), client="a", rank=rank_of(priority=0, since=number, came_back=False))
        line.remove((number, 0))
    assert len(line) == 0
    assert len(pickle.dumps(line)) < 5_000


class PlainLine:
    """The same rules, written to be read: everybody is looked at each time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.here: dict[Place, tuple[str, tuple[bool, int, int]]] = {}
        self.turns: dict[str, float] = {}
        self.others_turn = self.clock = 0.0

    def _count(self, client: str) -> int:
        return sum(of == client for of, _ in self.here.values())

    def add(self, place: Place, client: str, rank: tuple[bool, int, int]) -> None:
        self.here[place] = client, rank
        if self._count(client) > self.most:
            self.turns.setdefault(client, self.clock)

    def remove(self, place: Place) -> None:
        if place in self.here:
            client, _ = self.here.pop(place)
            if self._count(client) <= self.most:
                self.turns.pop(client, None)

    def take(self) -> Place | None:
        if not self.here:
            return None
        ranked = sorted((rank, place, client) for place, (client, rank) in self.here.items())
        rank, place, _ = ranked[0]
        if rank[0] and self.turns:
            heads: dict[str | None, tuple[tuple[bool, int, int], Place]] = {}
            for rank, place, client in ranked:
                heads.setdefault(client if client in self.turns else None, (rank, place))
            due = {who: self.turns[who] if who else max(self.others_turn, self.clock) for who in heads}
            who = min(heads, key=lambda who: (due[who], heads[who]))
            self.clock, place = due[who], heads[who][1]
            others = {client for client, _ in self.here.values()} - self.turns.keys()
            if who is None:
                self.others_turn = due[who] + 1 / len(others)
            else:
                self.turns[who] = due[who] + 1
        self.remove(place)
        return place


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 30), st.sampled_from("abcd"), st.booleans()),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("take")),
    ),
    max_size=120,
)


@given(most=st.integers(1, 4), steps=STEPS)
def test_it_serves_as_the_plain_one_does(most: int, steps: list[tuple[object, ...]]) -> None:
    line, plain = Line(most), PlainLine(most)
    for step in steps:
        match step:
            case "add", int(number), str(client), bool(came_back) if (number, 0) not in line:
                rank = rank_of(priority=0, since=number, came_back=came_back)
                line.add((number, 0), client=client, rank=rank)
                plain.add((number, 0), client, rank)
            case "remove", int(number):
                line.remove((number, 0))
                plain.remove((number, 0))
            case ("take",):
                assert line.take() == plain.take()
            case _:
                pass
    order = line.order()
    assert [line.take() for _ in range(len(line))] == list(order)
    assert [plain.take() for _ in order] == list(order)
