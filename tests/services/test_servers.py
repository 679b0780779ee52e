"""The servers that the tests start themselves, and the databases they hand out."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from redis import ConnectionError as RedisConnectionError, Redis

from tests.services import debian, rabbitmq, redis
from tests.services.ports import free_port as next_free_port
from tests.services.postgres import PostgresCluster
from tests.services.programs import CHROMIUM_FLAGS
from tests.services.waiting import wait_until

ClusterFactory = Callable[[], PostgresCluster]


def write_order(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE orders (id int)")
        connection.execute("INSERT INTO orders VALUES (1)")


def count_orders(url: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM orders").fetchone()
        return row and row[0]


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_postgres_database_is_empty_and_its_own(postgres_database: str, turn: str) -> None:
    del turn
    write_order(postgres_database)
    assert count_orders(postgres_database) == 1


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_prepared_database_has_our_tables_and_is_its_own(prepared_postgres: str, turn: str) -> None:
    with psycopg.connect(prepared_postgres) as connection:
        connection.execute("INSERT INTO facts (name, value) VALUES ('turn', 1)")
        assert connection.execute("SELECT value FROM facts WHERE name = 'turn'").fetchall() == [(1,)], turn


@pytest.mark.parametrize("turn", ["first", "second"])
def test_a_redis_database_is_empty_and_its_own(redis_url: str, redis_server: str, turn: str) -> None:
    del turn
    assert redis_url != redis_server
    with Redis.from_url(redis_url) as client:
        assert client.keys("order*:1") == []
        client.set("order:1", "placed")


def test_a_killed_postgres_comes_back_with_what_was_committed(postgres_cluster: ClusterFactory) -> None:
    cluster = postgres_cluster()
    write_order(cluster.url)
    with psycopg.connect(cluster.url) as interrupted:
        cluster.kill()
        with pytest.raises(psycopg.OperationalError):
            interrupted.execute("SELECT 1")
    cluster.start()
    assert count_orders(cluster.url) == 1


def test_a_stopped_postgres_refuses_connections_until_it_is_started(postgres_cluster: ClusterFactory) -> None:
    cluster = postgres_cluster()
    write_order(cluster.url)
    cluster.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(cluster.url)
    cluster.start()
    cluster.restart()
    assert count_orders(cluster.url) == 1


def test_two_postgres_clusters_run_side_by_side(postgres_cluster: ClusterFactory) -> None:
    first, second = postgres_cluster(), postgres_cluster()
    write_order(first.url)
    with pytest.raises(psycopg.errors.UndefinedTable):
        count_orders(second.url)


def test_a_rabbitmq_of_the_tests_own_answers(rabbitmq_program: Path, tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, cwd=tmp_path)
    with owner:
        rabbitmq.check(rabbitmq.start(rabbitmq_program, owner.pid))


def test_the_rabbitmq_that_was_found_answers(rabbitmq_url: str) -> None:
    rabbitmq.check(rabbitmq_url)


def test_a_server_ends_when_its_owner_is_killed(redis_program: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        url = redis.start(redis_program, owner.pid)
        owner.send_signal(signal.SIGKILL)
    with Redis.from_url(url, retry=None) as client:
        wait_until(lambda: not answers(client), what="Redis is gone")


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisConnectionError:
        return False


def test_nginx_runs(nginx: Path) -> None:
    done = subprocess.run([nginx, "-v"], check=True, capture_output=True, text=True)
    assert "nginx version" in done.stderr


def test_chromium_renders_a_page(chromium: Path, tmp_path: Path) -> None:
    page = "data:text/html,<title></title><script>document.title = ['order', 'up'].join('')</script>"
    command = [chromium, "--headless", *CHROMIUM_FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", page]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "<title>orderup</title>" in done.stdout


def test_a_free_port_is_free_and_given_once(free_port: Callable[[], int]) -> None:
    ports = [free_port() for _ in range(20)]
    assert len(set(ports)) == len(ports)
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_a_free_port_is_not_given_to_another_process_too() -> None:
    """The other process finds every port but one taken: it must say there is none, not give ours."""
    ours = next_free_port()
    code = f"from tests.services import ports; ports._FIRST = ports._LAST = {ours}; ports.free_port()"
    other = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert "No port" in other.stderr


def test_a_package_that_cannot_be_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(debian.CannotInstall, match="Install what Debian calls nginx"):
        debian.install("nginx")
