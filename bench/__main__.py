"""`make bench`: every benchmark, one after the other. One alone: `make bench ARGS="orders --rounds 5"`."""

import sys
from collections.abc import Callable

from bench import (
    attack,
    batch,
    celery,
    coffee,
    hanging,
    history,
    importing,
    mealbox,
    orders,
    outbox,
    patient,
    placing,
    poll,
    rate,
    restart,
    slack_directory,
    staffing,
    waiting,
)

BENCHES: dict[str, Callable[[], None]] = {
    "orders": orders.main,
    "waiting": waiting.main,
    "history": history.main,
    "outbox": outbox.main,
    "mealbox": mealbox.main,
    "restart": restart.main,
    "hanging": hanging.main,
    "coffee": coffee.main,
    "patient": patient.main,
    "attack": attack.main,
    "staffing": staffing.main,
    "placing": placing.main,
    "batch": batch.main,
    "poll": poll.main,
    "celery": celery.main,
    "importing": importing.main,
    "slack_directory": slack_directory.main,
    "rate": rate.main,
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else None
    if name is None:
        for run in BENCHES.values():
            run()
    elif name in BENCHES:
        del sys.argv[1]
        BENCHES[name]()
    else:
        sys.exit(f"There is no benchmark {name}. There is: {', '.join(BENCHES)}.")


if __name__ == "__main__":
    main()
