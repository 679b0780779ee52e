"""`orderup simulate pizza`, as processes beside a real server."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from orderup.cli.simulation.follow import Following
from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ORDERUP, Program, ServerProcess, sqlite_url

SECRET_KEY = "a-key-of-thirty-two-characters-or-more"
BODY = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """All installed shops, so that the pizzeria is not at the root."""
    with ServerProcess(folder=tmp_path, database_url=sqlite_url(tmp_path)).start() as server:
        yield server


def simulate(folder: Path, *arguments: str, name: str = "simulation", **environment: str) -> Program:
    command = [str(ORDERUP), "simulate", "pizza", *arguments]
    return Program(name, command, log=folder / f"{name}.log", environment=environment).launch()


def statuses(server: ServerProcess) -> list[str]:
    listed = httpx2.get(f"{server.back}/api/operations?shop=pizza&limit=500", timeout=PATIENCE_SECONDS)
    operations = listed.json()["operations"]
    return [operation["status"] for operation in operations]


@pytest.mark.parametrize("app", ["front", "back"])
def test_everybody_together_sees_every_order_to_its_end(server: ServerProcess, tmp_path: Path, app: str) -> None:
    address = {"front": server.front, "back": server.back}[app]
    with simulate(tmp_path, "--count", "6", "--speed", "60", SERVER_URL=address) as everybody:
        assert everybody.wait() == 0, everybody.last_lines()
    assert len(statuses(server)) == 6
    assert set(statuses(server)) <= {"completed", "cancelled"}


def test_each_role_plays_alone_and_ends_at_a_signal(server: ServerProcess, tmp_path: Path) -> None:
    given = {"SERVER_URL": server.back}
    with (
        simulate(tmp_path, "workers", "--speed", "60", name="workers", **given) as workers,
        simulate(tmp_path, "staff", "--speed", "60", name="staff", **given) as staff,
        simulate(tmp_path, "customers", "--count", "3", "--speed", "60", name="customers", **given) as customers,
    ):
        assert customers.wait() == 0, customers.last_lines()
        assert len(statuses(server)) == 3
        staff.send(signal.SIGINT)
        workers.send(signal.SIGTERM)
        assert (staff.wait(), workers.wait()) == (0, 0)
    assert "Traceback" not in staff.printed() + workers.printed()


def test_workers_do_what_a_customer_of_flesh_and_blood_orders(server: ServerProcess, tmp_path: Path) -> None:
    with simulate(tmp_path, "workers", "--speed", "100", SERVER_URL=server.front):
        placed = httpx2.post(f"{server.front}/pizza/pizzas", json=BODY, timeout=PATIENCE_SECONDS).json()
        httpx2.post(f"{server.back}/api/rfas/{placed['id']}/approve", json={}, timeout=PATIENCE_SECONDS)
        wait_until(
            lambda: httpx2.get(placed["links"]["self"], timeout=PATIENCE_SECONDS).json()["status"] == "completed",
            what="the pizza is delivered",
        )


def test_staff_declines_what_is_too_far_and_the_customer_reads_why(server: ServerProcess, tmp_path: Path) -> None:
    with simulate(tmp_path, "staff", "--speed", "100", SERVER_URL=server.back):
        there = {**BODY, "delivery_address": "1 Sea of Tranquility"}
        links = [
            httpx2.post(f"{server.front}/pizza/pizzas", json=body, timeout=PATIENCE_SECONDS).json()["links"]["self"]
            for body in (BODY, there)
        ]
        wait_until(
            lambda: (
                [httpx2.get(link, timeout=PATIENCE_SECONDS).json()["status"] for link in links]
                == ["approved", "declined"]
            ),
            what="both are decided",
        )
    assert httpx2.get(links[1], timeout=PATIENCE_SECONDS).json()["note"] == "We do not deliver to the Moon yet."


def test_customers_go_on_where_they_were_when_the_server_comes_back(server: ServerProcess, tmp_path: Path) -> None:
    with simulate(tmp_path, "--count", "5", "--speed", "20", SERVER_URL=server.back) as everybody:
        wait_until(lambda: "Baking pizza" in everybody.printed(), what="a pizza is in the oven")
        server.kill()
        server.restart()
        assert everybody.wait() == 0, everybody.last_lines()
    assert "Traceback" not in everybody.printed()
    assert set(statuses(server)) <= {"completed", "cancelled"}
    assert len(statuses(server)) == 5


def test_with_a_secret_key_tokens_are_made_from_it(tmp_path: Path) -> None:
    environment = {"SECRET_KEY": SECRET_KEY}
    closed = ServerProcess("pizza", folder=tmp_path, database_url=sqlite_url(tmp_path), environment=environment)
    with closed.start():
        options = ["--count", "3", "--speed", "60", "--server", closed.back]
        with simulate(tmp_path, *options, **environment) as everybody:
            assert everybody.wait() == 0, everybody.last_lines()
        with simulate(tmp_path, "staff", "--server", closed.back, name="strangers") as strangers:
            assert strangers.wait() == 2
        assert "401" in strangers.printed()
        assert "Traceback" not in strangers.printed()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cooks"], "Shop pizza has no simulated cooks. It has: customers, staff, workers."),
        (["staff", "--server", "http://127.0.0.1:1"], "No answer from http://127.0.0.1:1"),
    ],
)
def test_what_cannot_be_simulated_is_told_in_a_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    with simulate(tmp_path, *arguments) as program:
        assert program.wait() == 2
        assert message in program.printed()


def test_a_follower_counts_what_comes_twice_or_out_of_order() -> None:
    following = Following()
    seen = [(1, 1), (4, 2), (4, 2), (3, 3), (9, 5)]
    news = [following.note({"seq": seq, "n": n, "message": f"{n}"}) for seq, n in seen]
    assert news == [True, True, False, False, True]
    assert (following.repeats, following.messages) == (2, ["1", "2", "5"])
