"""A file of a million ads, imported by the command: how fast it is read and placed, and how much memory that takes.

Once its campaigns lie one after the other, as they are exported, and once all rows are shuffled. The command is a
process of its own; its memory is what the system says of it once it has ended.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from bench.orders import postgres_database, sqlite_file
from orderup.shops.campaigns.campaign import COLUMNS

GROUPS, ADS = 10, 100
SEED = 1
PLACES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "SQLite": sqlite_file,
    "PostgreSQL": postgres_database,
}


# Linux counts as a process's memory what the one had that started it: one that has little starts it.
LAUNCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


class Measured(NamedTuple):
    read_seconds: float
    placed_seconds: float
    peak_mib: float


def rows_of(campaigns: int) -> Iterator[str]:
    for campaign in range(campaigns):
        for group in range(GROUPS):
            for ad in range(ADS):
                id = f"{campaign}-{group}-{ad}"
                yield (
                    f'campaign-{campaign},"Campaign {campaign}, summer",1000.50,2026-06-01,2026-06-30,reach,'
                    f'group-{group},Group {group},1.25,18-24,"music, films",FR,'
                    f"ad-{group}-{ad},banner,https://cdn.example.com/creatives/{id}.png,"
                    f"https://shop.example.com/landing?ad={id},active\n"
                )


def write_file(path: Path, campaigns: int, *, is_shuffled: bool) -> None:
    rows = list(rows_of(campaigns))
    if is_shuffled:
        random.Random(SEED).shuffle(rows)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(rows)


def import_it(path: Path, database: str) -> Measured:
    command = [str(Path(sys.executable).with_name("orderup")), "campaigns", "import", str(path), "--yes"]
    environment = {**os.environ, "DATABASE_URL": database}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, *command], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise RuntimeError(f"The import ended with {done.returncode}: {done.stdout}{done.stderr}")
    return Measured(_seconds(done.stdout, "Read"), _seconds(done.stdout, "Placed"), int(done.stderr) / 1024)


def _seconds(text: str, what: str) -> float:
    found = re.search(rf"{what} in ([0-9,.]+) s\.", text)
    if found is None:
        raise RuntimeError(f"The command did not say how long it took: {text}")
    return float(found[1].replace(",", ""))


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench importing", description=__doc__)
    parser.add_argument("--campaigns", type=int, default=1_000, help="Of a thousand ads each.")
    wanted = parser.parse_args()
    ads = wanted.campaigns * GROUPS * ADS
    print("| | read, s | rows/s | placed, s | ads/s | peak MiB | load |\n| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="orderup-bench-") as folder:
        for order, is_shuffled in (("one after the other", False), ("shuffled", True)):
            path = Path(folder) / "campaigns.csv"
            write_file(path, wanted.campaigns, is_shuffled=is_shuffled)
            for name, where in PLACES.items():
                with where() as url:
                    found = import_it(path, url)
                print(
                    f"| {name}, {order} | {found.read_seconds:.1f} | {ads / found.read_seconds:,.0f} "
                    f"| {found.placed_seconds:.1f} | {ads / found.placed_seconds:,.0f} | {found.peak_mib:.0f} "
                    f"| {os.getloadavg()[0]:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
