"""`python -m tests.invariants DATABASE_URL --ledger FILE… --client-log FILE…`: twelve counts of violations, 0 is good.

The exit code is 1 if one is not 0.
"""

import argparse
import sys
from pathlib import Path

from orderup.cli.shops import load_shops
from orderup.model.task import queue_name
from tests.invariants.checker import check, report
from tests.invariants.evidence import Evidence, read_database_at
from tests.invariants.records import read_records


def main(arguments: argparse.Namespace) -> int:
    # first the records, then the database: what is in them happened before it was read
    records = read_records([*arguments.ledger, *arguments.client_log])
    shops = load_shops(arguments.shop) if arguments.shop else []
    evidence = Evidence(
        read_database_at(arguments.database_url),
        records,
        must_have_ended=arguments.ended,
        kinds={queue_name(shop.name, name): kind for shop in shops for name, kind in shop.kinds.items()},
        staff=frozenset(arguments.staff),
        secrets=arguments.secrets.read_text().split() if arguments.secrets else (),
        logs={str(path): path.read_text(errors="replace") for path in arguments.log},
    )
    found = check(evidence)
    print(report(found))
    return 1 if any(found.values()) else 0


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.invariants", description=__doc__)
    parser.add_argument("database_url", help="as DATABASE_URL: sqlite:///PATH or postgresql://…")
    parser.add_argument("--ledger", type=Path, nargs="*", default=[], help="what workers wrote down")
    parser.add_argument("--client-log", type=Path, nargs="*", default=[], help="what clients wrote down")
    parser.add_argument("--shop", nargs="*", default=[], help="shops whose limits must have held")
    parser.add_argument("--staff", nargs="*", default=[], help="names that may decide; none given: anybody's")
    parser.add_argument("--log", type=Path, nargs="*", default=[], help="logs in which no secret may stand")
    parser.add_argument("--secrets", type=Path, help="a file of secrets, separated by blanks or lines")
    parser.add_argument("--ended", action="store_true", help="the run is over: every operation must have ended")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(read_arguments()))
