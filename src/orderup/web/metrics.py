"""What Prometheus reads at /metrics. One `Metrics` a process, with a registry of its own: two servers share none."""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

# When each series began, as a series of its own: nothing here is drawn from it, and it makes half of what is sent.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Half a millisecond, what a request can cost at best, to half a minute, what a long poll may wait.
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Bounded whatever is asked for: a label's values are kept for ever.
UNKNOWN: Final = "other"
NO_ROUTE: Final = "(none)"


class Series:
    """One histogram of one set of labels. `counts`: in each bucket, and above all of them."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.total = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Histogram:
    """As Prometheus's client has it, but for one thread: without a lock and a walk through the buckets, which would be
    a twentieth of what the busiest routes cost. Nothing is observed but in the event loop."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        registry: CollectorRegistry,
        buckets: Sequence[float] = LATENCY_BUCKETS,
    ) -> None:
        self.name, self.text, self.label_names, self.bounds = name, text, labels, tuple(buckets)
        self._series: dict[tuple[str, ...], Series] = {}
        if not labels:
            self.labels()
        registry.register(self)

    def labels(self, *values: str) -> Series:
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = Series(self.bounds)
        return found

    def observe(self, value: float) -> None:
        """Of one without labels."""
        self._series[()].observe(value)

    def describe(self) -> Iterable[HistogramMetricFamily]:
        return [HistogramMetricFamily(self.name, self.text, labels=self.label_names)]

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self.name, self.text, labels=self.label_names)
        names = [*map(floatToGoString, self.bounds), "+Inf"]
        for values, series in self._series.items():
            family.add_metric(values, list(zip(names, accumulate(series.counts), strict=True)), series.total)
        return [family]


class Metrics:
    """Whoever has more to tell registers its collectors in `registry`; `refresh` is awaited before each reading."""

    def __init__(self, *, refresh: Callable[[], Awaitable[None]] | None = None) -> None:
        self.registry = CollectorRegistry()
        self.refresh = refresh
        self.http_requests = Counter(
            "orderup_http_requests_total",
            "HTTP requests answered, by app, route, method and status.",
            ("app", "route", "method", "status"),
            registry=self.registry,
        )
        self.http_seconds = Histogram(
            "orderup_http_request_seconds",
            "Seconds from a request's arrival to the end of its answer.",
            ("app", "route", "method"),
            registry=self.registry,
        )
        self.websockets = Gauge("orderup_websockets", "WebSockets open now.", ("app", "route"), registry=self.registry)

        self._children: dict[tuple[str, str, str, int], tuple[Counter, Series]] = {}

    def count_request(self, *, app: str, route: str, method: str, status: int, seconds: float) -> None:
        method = method if method in KNOWN_METHODS else UNKNOWN
        key = (app, route or NO_ROUTE, method, status)
        children = self._children.get(key)
        if children is None:
            children = self.http_requests.labels(*key), self.http_seconds.labels(*key[:3])
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    async def read(self) -> tuple[bytes, str]:
        """The text and its content type."""
        if self.refresh is not None:
            await self.refresh()
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
