"""The meal boxes as they are deployed, all but the containers: through nginx, with the settings of the compose file."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.services.waiting import PATIENCE_SECONDS, wait_until
from tests.serving import ROOT, Program
from tests.shops.mealbox.conftest import GOOD

SECONDS = 90
TOKEN = "only-for-figures"


@dataclass(frozen=True)
class Deployed:
    front: str
    back: str

    def order(self, address: str, key: str, **headers: str) -> httpx2.Response:
        """From this address. All of 127.0.0.0/8 is this machine."""
        with httpx2.Client(transport=httpx2.HTTPTransport(local_address=address), timeout=PATIENCE_SECONDS) as client:
            said = {"Idempotency-Key": key, "Prefer": "wait=30", **headers}
            return client.post(f"{self.front}/orders", json=GOOD, headers=said)


@pytest.fixture
def deployed(
    nginx: Path, prepared_postgres: str, rabbitmq_url: str, free_port: Callable[[], int], tmp_path: Path
) -> Iterator[Deployed]:
    front, back, figures = free_port(), free_port(), free_port()
    options: dict[str, Any] = {
        "--front-port": front,
        "--back-port": back,
        "--prometheus-port": figures,
        "--database-url": prepared_postgres,
        "--rabbitmq-url": rabbitmq_url,
        "--nginx": nginx,
    }
    command: list[str | Path] = [
        sys.executable,
        ROOT / "scripts" / "mealbox.py",
        *(str(word) for pair in options.items() for word in pair),
    ]
    program = Program("mealbox", command, log=tmp_path / "said.log", environment={"METRICS_TOKEN": TOKEN})
    with program.launch():
        try:
            wait_until(
                lambda: "Customers:" in program.printed() or not program.runs, seconds=SECONDS, what="all is ready"
            )
            assert program.runs, program.last_lines()
            yield Deployed(f"http://127.0.0.1:{front}", f"http://127.0.0.1:{back}")
        finally:
            program.terminate()
            assert program.wait(seconds=SECONDS) == 0


@pytest.mark.timeout(3 * SECONDS)
def test_an_order_goes_through_nginx_and_each_customer_is_known_by_his_own_address(deployed: Deployed) -> None:
    first = deployed.order("127.0.0.7", "one")
    assert first.status_code == 201, first.text
    assert first.json()["total_amount"] == 9.99
    assert first.headers["Location"].startswith(f"{deployed.front}/orders/")
    again = deployed.order("127.0.0.7", "one")
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
    assert again.headers["Idempotency-Replayed"] == "true"
    # the same key is another's at another address, whatever he says of himself
    for said in ({}, {"X-Forwarded-For": "127.0.0.7"}, {"Forwarded": "for=127.0.0.7"}, {"X-Real-IP": "127.0.0.7"}):
        other = deployed.order("127.0.0.8", "one", **said)
        assert other.status_code == 201, other.text
        assert other.json()["id"] != first.json()["id"]
    # followed live, through nginx
    with httpx2.stream("GET", first.json()["links"]["events"], timeout=PATIENCE_SECONDS) as answer:
        assert any('"operation.completed"' in line for line in answer.iter_lines())
    # the API of staff asks for a token; figures are for Prometheus alone, who asks the shop itself
    assert httpx2.get(f"{deployed.back}/api/operations", timeout=PATIENCE_SECONDS).status_code == 401
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx2.get(f"{deployed.back}/metrics", headers=headers, timeout=PATIENCE_SECONDS).status_code == 404
