"""The third party that campaigns are submitted to. Opened once a process."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter

from orderup.integrations.dsp import Dsp, open_dsp
from orderup.integrations.upstream import UpstreamMetrics
from orderup.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """polled: what the platform said about customers' tasks, by what became of it."""

    settings: Settings
    dsp: Dsp
    polled: Counter

    def now(self) -> float:
        """Seconds since the epoch, for memos, which another process may read."""
        return time.time()


@asynccontextmanager
async def open_services(settings: Settings, registry: CollectorRegistry) -> AsyncIterator[Services]:
    polled = Counter(
        "orderup_campaigns_polled_entries_total",
        "What the platform said about customers' tasks: changed, same, finished, unknown, repeated, unreadable.",
        ("outcome",),
        registry=registry,
    )
    async with open_dsp(settings, UpstreamMetrics.of(registry)) as dsp:
        yield Services(settings, dsp, polled)


# What leads to the sandbox, by the setting without which the platform cannot be asked.
STAND_INS: Mapping[str, Mapping[str, str]] = {"dsp_url": {"dsp_url": "{http}/dsp"}}
