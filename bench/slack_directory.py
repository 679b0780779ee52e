"""Finding people by name on Slack, in a workspace of 20,000: how long its list of members takes to be read at the pace
that Slack allows, what it takes to keep, and what a lookup takes then.

Against the sandbox's Slack, by real requests. Whoever is told to rest does so on a clock that is put forward, unless
`--patiently` has him wait; so the minutes are those of the clock, and the work is measured.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from dataclasses import dataclass, field

import uvloop
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from orderup.errors import Resting
from orderup.integrations.slack import Directory, Page, Slack, open_slack
from orderup.integrations.upstream import UpstreamMetrics
from orderup.sandbox import serve_sandbox
from orderup.settings import Settings

MEMBERS, LOOKUPS = 20_000, 20_000
MINUTE, MIB = 60.0, 1 << 20


class Clock:
    """Put forward by whoever rests."""

    def __init__(self, *, is_patient: bool) -> None:
        self.is_patient, self.ahead = is_patient, 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead

    async def rest(self, seconds: float) -> None:
        if self.is_patient:
            await asyncio.sleep(seconds)
        else:
            self.ahead += seconds


@dataclass(slots=True)
class Reading:
    """pages: when each was asked for, by the clock. working: seconds between the rests."""

    pages: list[float] = field(default_factory=list)
    rests: int = 0
    working: float = 0.0

    @property
    def most_in_a_minute(self) -> int:
        return max(sum(begin <= page < begin + MINUTE for page in self.pages) for begin in self.pages)


async def read_all(slack: Slack, clock: Clock) -> Reading:
    """Until a name is found, as a shop's task would: each time that it is told to rest it comes again."""
    reading, directory = Reading(), slack.directory
    read = directory.read

    async def noted(cursor: str) -> Page | None:
        reading.pages.append(clock())
        page: Page | None = await read(cursor)
        return page

    directory.read, directory.monotonic = noted, clock
    while True:
        began = time.perf_counter()
        try:
            await slack.find_by_name("Member 1")
        except Resting as rest:
            reading.working += time.perf_counter() - began
            reading.rests += 1
            await clock.rest(rest.seconds)
        else:
            reading.working += time.perf_counter() - began
            return reading


def bytes_of(directory: Directory) -> int:
    """Of the names, the ids, and the table between them."""
    known = directory._known or {}  # noqa: SLF001  what is weighed
    ids = {id(user_id): user_id for user_id in known.values()}
    return sys.getsizeof(known) + sum(map(sys.getsizeof, known)) + sum(map(sys.getsizeof, ids.values()))


async def look_up(slack: Slack, *, members: int, lookups: int, seed: int) -> list[float]:
    """Seconds of each. Half of them are of names that nobody has."""
    draw, seconds = random.Random(seed), []
    for _ in range(lookups):
        name = f"Member {draw.randrange(2 * members)}"
        began = time.perf_counter()
        await slack.find_by_name(name)
        seconds.append(time.perf_counter() - began)
    return seconds


async def measure(wanted: argparse.Namespace) -> str:
    async with serve_sandbox() as sandbox:
        sandbox.slack.add_members(wanted.members)
        settings = Settings(slack_base_url=f"{sandbox.base_url}/slack/api", slack_bot_token=SecretStr("xoxb-bench"))
        async with open_slack(settings, UpstreamMetrics(CollectorRegistry())) as slack:
            reading = await read_all(slack, Clock(is_patient=wanted.patiently))
            asked = sandbox.slack.asked["list_members"]
            seconds = await look_up(slack, members=wanted.members, lookups=wanted.lookups, seed=wanted.seed)
            if sandbox.slack.asked["list_members"] != asked:
                raise RuntimeError("A lookup asked Slack again.")
            cells = [
                f"{wanted.members:,}",
                f"{len(reading.pages)}",
                f"{reading.most_in_a_minute}",
                f"{reading.pages[-1] - reading.pages[0]:.0f}",
                f"{reading.working:.1f}",
                f"{bytes_of(slack.directory) / MIB:.1f}",
                f"{1e6 * statistics.median(seconds):.1f}",
                f"{1e6 * sorted(seconds)[int(0.99 * len(seconds))]:.1f}",
            ]
            return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench slack_directory", description=__doc__)
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--lookups", type=int, default=LOOKUPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patiently", action="store_true", help="wait in earnest where Slack wants a rest")
    wanted = parser.parse_args()
    print(
        "| members | pages | most pages in a minute | seconds until all are read | of them at work, sandbox included "
        "| MiB | lookup µs p50 | p99 |"
    )
    print("| --- " * 8 + "|")
    print(uvloop.run(measure(wanted)), flush=True)


if __name__ == "__main__":
    main()
