"""The first thing a newcomer does: `make run`, and a pizza, a meal box, a cake."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2

from tests.services.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
PIZZA = {"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}
CAKE = {"customer": "Mr. Cakelover", "recipe": "chocolate_cake", "persons": 4}


def test_a_first_pizza_a_first_meal_box_and_a_first_cake_go_through_at_once(
    free_port: Callable[[], int], tmp_path: Path
) -> None:
    front, back = free_port(), free_port()
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "run.py"]
    command += ["--front-port", str(front), "--back-port", str(back)]
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path}/orderup.db"}
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
    with run:
        try:
            wait_until(
                lambda: "Order a pizza" in (tmp_path / "said").read_text() or run.poll() is not None,
                what="the welcome",
            )
            with httpx2.Client(timeout=10) as client:
                order = client.post(f"http://localhost:{front}/pizza/pizzas", json=PIZZA).json()
                approval = client.post(
                    f"http://localhost:{back}/api/rfas/{order['id']}/approve", json={"notes": "Enjoy!"}
                )
                assert approval.status_code == 200

                def is_completed() -> bool:
                    answer = client.get(f"http://localhost:{front}/pizza/pizzas/{order['id']}").json()
                    return bool(answer["status"] == "completed")

                wait_until(is_completed, what="the pizza is delivered")
                named = re.search(r"A meal box: .* for (\w+): ([\w-]+),", (tmp_path / "said").read_text())
                assert named is not None
                box = {"user_id": named[1], "product_code": named[2]}
                waiting = {"Prefer": "wait=9"}
                answer = client.post(f"http://localhost:{front}/mealbox/orders", json=box, headers=waiting)
                assert answer.status_code == 201, answer.text
                cake = client.post(f"http://localhost:{front}/bakery/orders", json=CAKE)
                assert cake.status_code == 201, cake.text
        finally:
            run.send_signal(signal.SIGINT)
        assert run.wait(40) == 0
