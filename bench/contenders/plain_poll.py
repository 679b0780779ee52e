"""A plain program that asks the platform how tasks stand: it loads all rows, and updates those that differ one by one,
in one transaction. It trusts what it is told."""

import argparse
import json
import sqlite3
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

OPEN = ("Not Started", "In Progress")


def poll(connection: Any, mark: str, dsp_url: str) -> int:
    """How many rows were updated. mark: how the driver writes a parameter."""
    with urllib.request.urlopen(f"{dsp_url}/tasks", timeout=20) as answer:  # noqa: S310  the bench's own address
        entries = json.load(answer)
    cursor = connection.cursor()
    cursor.execute("select id, status, validation_error from campaigns_tasks")
    known = {row[0]: row for row in cursor.fetchall()}
    changed = 0
    for entry in entries:
        row, error = known.get(int(entry["id"])), entry.get("error_message")
        if row is None or row[1] not in OPEN or (row[1], row[2]) == (entry["status"], error):
            continue
        cursor.execute(
            f"update campaigns_tasks set status = {mark}, validation_error = {mark}, updated_at = {mark} "
            f"where id = {mark}",
            (entry["status"], error, round(datetime.now(UTC).timestamp() * 1e6), row[0]),
        )
        changed += 1
    connection.commit()
    return changed


def peak_mib() -> float:
    """Of this program alone: what getrusage tells begins with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--of", required=True)
    parser.add_argument("--platform", required=True)
    wanted = parser.parse_args()
    is_sqlite = wanted.of.startswith("sqlite:///")
    connection: Any = sqlite3.connect(wanted.of.removeprefix("sqlite:///")) if is_sqlite else psycopg.connect(wanted.of)
    mark = "?" if is_sqlite else "%s"
    before, began = peak_mib(), time.perf_counter()
    changed = poll(connection, mark, wanted.platform)
    ended = time.perf_counter()
    poll(connection, mark, wanted.platform)
    again = time.perf_counter() - ended
    connection.close()
    figures = {"changed": changed, "seconds": ended - began, "again": again}
    print(json.dumps({**figures, "before_mib": before, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
