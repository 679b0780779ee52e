"""`make run`: start every shop on SQLite and simulated pizza workers beside it, say how to order, stop both on Ctrl-C.

`orderup serve` never simulates, so the workers are a process of their own, as they would be on other machines. Third
parties that are not set it has the sandbox stand in for, at port 8002 or the next free one, and says so.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ORDERUP = [str(Path(sys.executable).with_name("orderup"))]
START_SECONDS = 60
# Longer than the server's own grace: it and the workers finish what they hold, or hand it back.
STOP_SECONDS = 15

WELCOME = """
orderup is running, every shop on SQLite in ./var. Ctrl-C stops it.

  1. Order a pizza:         http://localhost:{front}
  2. Approve it, as staff:  http://localhost:{back}/inbox
  3. Watch it being made, by simulated workers, on the page that your order opened.

  A coffee: order it at     http://localhost:{front}/coffee/ and brew it at http://localhost:{back}/station/coffee/brew
  A meal box: order it at   http://localhost:{front}/mealbox/ for 7c11e1ce2741: classic-box, \
family-box (takes a minute), veggie-box (fails)

  A cake: order it at       http://localhost:{front}/bakery/ and say that it is ready at http://localhost:{back}/bakery/board

  What goes on in the shops: http://localhost:{back}
  The API: http://localhost:{front}/docs/ and http://localhost:{back}/docs/

The same without a browser, in another terminal:

  1. Order it. The answer holds the order's id.
     curl -s http://localhost:{front}/pizza/pizzas -H 'Content-Type: application/json' \\
       -d '{{"name": "Margherita", "tier": "basic", "delivery_address": "1 Harbour Lane", "customer": "Ada"}}'

  2. Watch it, putting the id for ID.
     curl -N http://localhost:{front}/pizza/pizzas/ID/events

  3. Approve it, as staff.
     curl -s -X POST http://localhost:{back}/api/rfas/ID/approve -H 'Content-Type: application/json' \\
       -d '{{"notes": "Enjoy!"}}'
"""

FIRST_RECIPE = {
    "name": "Chocolate Cake",
    "ingredients": {"chocolate": 33.5, "butter": 16.5, "flour": 8.5, "sugar": 16.5, "eggs": 1},
}


class CannotRun(Exception):
    """The message says what is in the way, and the way out."""


class Stopped(Exception):
    """Somebody pressed Ctrl-C, or asked by a signal for the end."""


def main(front: int, back: int) -> int:
    """Give the exit code of an end that nobody asked for. Raises CannotRun, or Stopped when somebody asked."""
    refuse_taken_ports(front, back)
    (ROOT / "var").mkdir(exist_ok=True)
    with running("serve", "--front-port", str(front), "--back-port", str(back)) as server:
        wait_until_ready(server, back)
        with running("simulate", "pizza", "workers", server_url=f"http://localhost:{back}") as workers:
            write_first_recipe(front)
            print(WELCOME.format(front=front, back=back), flush=True)
            say_who_ended(server, workers)
            return 1


def raise_stopped(_signal: int, _frame: types.FrameType | None) -> None:
    # A second Ctrl-C must not cut short the stopping that the first one began.
    for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(caught, signal.SIG_IGN)
    raise Stopped


def refuse_taken_ports(*ports: int) -> None:
    if taken := [port for port in ports if not is_free(port)]:
        first = next(port for port in range(max(ports) + 9, 65_000, 10) if is_free(port) and is_free(port + 1))
        raise CannotRun(
            f"Something else listens on port {' and '.join(map(str, taken))}. Stop it, or use other ports:\n"
            f"  make run FRONT_PORT={first} BACK_PORT={first + 1}"
        )


def is_free(port: int) -> bool:
    """Whether nothing listens there, on either loopback address: a browser may take localhost for both."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as probe:
            probe.settimeout(1)
            if probe.connect_ex((address, port)) == 0:
                return False
    return True


@contextlib.contextmanager
def running(*arguments: str, server_url: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run an orderup command for the length of the block; afterwards it has ended, in its own time if it can."""
    environment = {**os.environ, **({"SERVER_URL": server_url} if server_url else {})}
    # A session of its own: Ctrl-C reaches us alone, and we stop the workers before the server.
    process = subprocess.Popen([*ORDERUP, *arguments], cwd=ROOT, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(server: subprocess.Popen[bytes], back: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_ready(back):
        if server.poll() is not None:
            raise CannotRun(f"The server ended while starting (exit code {server.returncode}); it said why above.")
        if time.monotonic() > deadline:
            raise CannotRun(f"The server was not ready within {START_SECONDS} seconds.")
        time.sleep(0.1)


def is_ready(back: int) -> bool:
    return ask(back, "/readyz") is not None


def write_first_recipe(front: int) -> None:
    """So that the bakery has something to sell. One that has cakes, or wants to know who asks, is left as it is."""
    if ask(front, "/bakery/cakes") == {"cakes": []}:
        ask(front, "/bakery/cakes", post=FIRST_RECIPE)


def ask(port: int, path: str, *, post: object = None) -> object:
    """The JSON that is answered; None if there is no good answer."""
    body = None if post is None else json.dumps(post).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=body, headers={"Content-Type": "application/json"}
    )
    # straight to this machine, whatever proxy the environment names
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=2) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None


def say_who_ended(server: subprocess.Popen[bytes], workers: subprocess.Popen[bytes]) -> None:
    """Return when one of the two has ended by itself, which neither should."""
    while server.poll() is None and workers.poll() is None:
        time.sleep(0.2)
    for name, process in (("The server", server), ("The simulated workers", workers)):
        if process.returncode is not None:
            print(f"{name} ended unasked (exit code {process.returncode}). Stopping.", file=sys.stderr)


def read_ports() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--front-port", type=int, default=8000, help="for customers")
    parser.add_argument("--back-port", type=int, default=8001, help="for staff and workers")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = read_ports()
    for asks_for_the_end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asks_for_the_end, raise_stopped)
    try:
        sys.exit(main(chosen.front_port, chosen.back_port))
    except Stopped:
        print("Stopped. The orders are in ./var; `make run` goes on with them.")
    except CannotRun as problem:
        sys.exit(f"run: {problem}")
