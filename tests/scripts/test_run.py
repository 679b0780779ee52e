"""`make run`, from its outside."""

import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_taken_port_is_named_with_the_way_out(free_port: Callable[[], int]) -> None:
    front, back = free_port(), free_port()
    with socket.create_server(("127.0.0.1", back)):
        command: list[str | Path] = [
            sys.executable,
            ROOT / "scripts" / "run.py",
            "--front-port",
            str(front),
            "--back-port",
            str(back),
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"Something else listens on port {back}." in done.stderr
    assert "make run FRONT_PORT=" in done.stderr
    assert str(front) not in done.stderr
