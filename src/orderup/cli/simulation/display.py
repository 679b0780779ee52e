"""How a demo goes, while it goes: on a terminal a table that changes, elsewhere a line now and then."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from orderup.cli.simulation.people import Visit

REDRAW_SECONDS, LINE_SECONDS = 0.1, 1.0
COLOURS = {
    "completed": "green",
    "ready": "green",
    "declined": "yellow",
    "cancelled": "yellow",
    "expired": "yellow",
    "failed": "red",
}
LONGEST_BAR = 40


class Display:
    """`visits` grow while customers come, up to `wanted`."""

    def __init__(self, console: Console, visits: Sequence[Visit], *, wanted: int, statuses: Sequence[str]) -> None:
        self.console, self.visits, self.wanted = console, visits, wanted
        self.statuses = statuses
        self._began = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(LONGEST_BAR), MofNCompleteColumn(), TaskProgressColumn())
        self._progress = Progress(*columns)
        self._bar = self._progress.add_task("ended", total=wanted)

    async def run(self) -> None:
        """Until cancelled."""
        if not self.console.is_terminal:
            await self._print_lines()
        with Live(self._picture(), console=self.console, refresh_per_second=1 / REDRAW_SECONDS) as live:
            try:
                while True:
                    await asyncio.sleep(REDRAW_SECONDS)
                    live.update(self._picture())
            finally:
                live.update(self._picture())

    async def _print_lines(self) -> None:
        try:
            while True:
                await asyncio.sleep(LINE_SECONDS)
                self._print_line()
        finally:
            self._print_line()

    def _print_line(self) -> None:
        counts = self._counts()
        standing = ", ".join(f"{counts[status]} {status}" for status in self.statuses if counts[status])
        self.console.print(f"{self._elapsed:5.1f} s  {self._ended} of {self.wanted} ended: {standing}", soft_wrap=True)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    @property
    def _ended(self) -> int:
        return sum(visit.has_ended for visit in self.visits)

    def _counts(self) -> Counter[str]:
        return Counter(visit.status for visit in self.visits)

    def _picture(self) -> Group:
        counts = self._counts()
        most = max([*counts.values(), 1])
        table = Table(box=None, padding=(0, 1), show_header=False)
        table.add_column(justify="right")
        table.add_column(justify="right")
        table.add_column(width=LONGEST_BAR)
        for status in self.statuses:
            bar = "█" * round(LONGEST_BAR * counts[status] / most)
            table.add_row(status.replace("_", " "), str(counts[status]), Text(bar, COLOURS.get(status, "blue")))
        self._progress.update(self._bar, completed=self._ended)
        rate = self._ended / max(self._elapsed, 0.001)
        return Group(table, self._progress, Text(f"{self._elapsed:.1f} s, {rate:.1f} orders a second"))
