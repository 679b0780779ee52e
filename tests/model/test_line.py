"""The line of a queue whose clients take turns, and the same against a model that looks at everybody each time."""

import pickle
from collections.abc import Sequence

from hypothesis import example, given, strategies as st

from orderup.model.line import MOST_LATER, Line, Place, rank_of


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


class Bar:
    """A line that orders come to one after the other."""

    def __init__(self, most: int, *clients: str) -> None:
        self.line, self.clients = Line(most), dict[Place, str]()
        for client in clients:
            self.order(client)

    def order(self, client: str) -> None:
        place = len(self.clients), 0
        self.clients[place] = client
        self.line.add(place, client=client, rank=rank_of(priority=0, since=place[0], came_back=False))

    def fill(self, client: str) -> None:
        """Until he is just above his share."""
        while self.line.waiting_of(client) <= (self.line.most or 0):
            self.order(client)

    def leave(self, client: str) -> None:
        """His youngest order."""
        theirs = [place for place in self.line if self.clients[place] == client]
        if theirs:
            self.line.remove(max(theirs))

    def serve(self) -> str:
        place = self.line.take()
        assert place is not None
        return self.clients[place]


def test_who_hovers_about_his_share_has_one_turn_a_round_as_he_has_with_thousands() -> None:
    for waiting in (21, 250):
        bar = Bar(20, *(f"r{number}" for number in range(100)))
        served = ""
        for _ in range(100):
            while bar.line.waiting_of("h") < waiting:
                bar.order("h")
            served += bar.serve()[0]
        # as more of the others are served, fewer are left: a round is shorter
        assert served[:50].count("h") <= 2
        assert served.count("h") <= 6


def test_who_leaves_and_comes_again_gains_nothing() -> None:
    bar = Bar(2, *"abcdefgh", *"hhhh")
    served = ""
    for _ in range(8):
        for _ in range(3):
            bar.leave("h")
        while bar.line.waiting_of("h") < 5:
            bar.order("h")
        served += bar.serve()
    assert served.count("h") <= 2


def test_the_clock_leaves_no_books_of_those_who_were_over_their_share() -> None:
    line, kept = Line(1), []
    line.add((0, 0), client="waits", rank=rank_of(priority=9, since=0, came_back=False))
    for number in range(1, 4 * MOST_LATER):
        for position in range(2):
            line.add((number, position), client=f"c{number}", rank=rank_of(priority=0, since=number, came_back=False))
        line.take()
        line.remove((number, 0))
        line.remove((number, 1))
        kept.append(len(pickle.dumps(line)) if number % MOST_LATER == 0 else 0)
    assert max(kept[2 * MOST_LATER :]) <= 1.1 * max(kept[: 2 * MOST_LATER])


DEEDS = st.lists(
    st.tuples(st.sampled_from(["order", "fill", "leave", "serve", "serve"]), st.sampled_from("habcd")),
    min_size=10,
    max_size=400,
)


HOVERING = [*(("order", client) for client in "abcdabcd"), *[("fill", "h"), ("serve", "")] * 9]


@given(most=st.integers(1, 4), deeds=DEEDS)
@example(most=2, deeds=HOVERING)
@example(most=2, deeds=[*HOVERING, *[("leave", "h"), ("leave", "h"), ("fill", "h"), ("serve", "")] * 9])
def test_whatever_a_client_does_the_others_get_their_share(most: int, deeds: list[tuple[str, str]]) -> None:
    """Turns of his, and rounds of all who are within their share: he gains no more than two of them, ever."""
    bar = Bar(most)
    turns, rounds = dict.fromkeys("habcd", 0), dict.fromkeys("habcd", 0.0)
    for deed, client in deeds:
        if deed != "serve":
            {"order": bar.order, "fill": bar.fill, "leave": bar.leave}[deed](client)
        elif bar.line:
            over = {each for each in "habcd" if bar.line.waiting_of(each) > most}
            within = {bar.clients[place] for place in bar.line} - over
            oldest = min(bar.line)
            served = bar.serve()
            if not over:
                assert oldest not in bar.line  # strictly oldest first
            elif served in over:
                turns[served] += 1
            else:
                rounds = {each: passed + 1 / len(within) for each, passed in rounds.items()}
            if over and not within:
                turns, rounds = dict.fromkeys("habcd", 0), dict.fromkeys("habcd", 0.0)  # nobody else waits
        if not bar.line:
            turns, rounds = dict.fromkeys("habcd", 0), dict.fromkeys("habcd", 0.0)
        assert all(turns[each] <= 2 + rounds[each] + 1e-6 for each in turns)


class PlainLine:
    """The same rules, written to be read: everybody is looked at each time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.here: dict[Place, tuple[str, tuple[bool, int, int]]] = {}
        self.turns: dict[str, float] = {}
        # no tag is ever forgotten while somebody waits
        self.later: dict[str, float] = {}
        self.others_turn = self.clock = 0.0

    def _count(self, client: str) -> int:
        return sum(of == client for of, _ in self.here.values())

    def add(self, place: Place, client: str, rank: tuple[bool, int, int]) -> None:
        self.here[place] = client, rank
        if self._count(client) > self.most:
            self.turns.setdefault(client, max(self.clock, self.later.get(client, 0)))

    def remove(self, place: Place) -> None:
        if place in self.here:
            client, _ = self.here.pop(place)
            if self._count(client) <= self.most and client in self.turns:
                self.later[client] = self.turns.pop(client)
            if not self.here:
                self.later, self.others_turn = {}, self.clock

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
