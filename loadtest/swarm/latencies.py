"""Latencies of Locust's requests at microsecond resolution, merged over workers.

Locust rounds its own percentiles to two digits. These come from an HDR histogram per model, which workers send to the
master with their usual reports.
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from hdrh.histogram import HdrHistogram

from loadtest.analysis.intervals import LEVELS

if TYPE_CHECKING:
    # Importing Locust replaces the process's sockets by gevent's, which asyncio does not work with.
    from locust.env import Environment

_KEY = "latencies"
_LONGEST_US = 60_000_000
_LEVELS = {"p50_ms": 50, "p90_ms": 90, "p95_ms": 95, "p99_ms": 99, "p99.9_ms": 99.9, "max_ms": 100}


class Latencies:
    """The histograms of one test, by model; attached to a Locust environment for its whole life."""

    def __init__(self, environment: "Environment"):
        self.histograms: defaultdict[str, HdrHistogram] = defaultdict(_empty)
        events = environment.events
        events.request.add_listener(self.on_request)
        events.report_to_master.add_listener(self.on_report_to_master)
        events.worker_report.add_listener(self.on_worker_report)
        events.test_start.add_listener(lambda **_: self.histograms.clear())

    def on_request(self, name: str, response_time: float, exception: BaseException | None, **_: Any) -> None:
        """Record one answered request; failures have no place among latencies."""
        if exception is None:
            microseconds = int(response_time * 1000)
            self.histograms[name].record_value(min(_LONGEST_US, max(1, microseconds)))

    def on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        """Hand over what was recorded since the last report."""
        data[_KEY] = {name: histogram.encode() for name, histogram in self.histograms.items()}
        self.histograms.clear()

    def on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        """Add a worker's report to the master's histograms."""
        for name, encoded in data.get(_KEY, {}).items():
            self.histograms[name].decode_and_add(encoded)

    def total(self) -> HdrHistogram:
        """All models together."""
        total = _empty()
        for histogram in self.histograms.values():
            total.add(histogram)
        return total


def _empty() -> HdrHistogram:
    """A histogram of microseconds."""
    return HdrHistogram(1, _LONGEST_US, significant_figures=3)


def curve(histogram: HdrHistogram) -> list[tuple[float, float]]:
    """Points (percentile, milliseconds) for a plot."""
    if not histogram.get_total_count():
        return []
    return [(level, histogram.get_value_at_percentile(level) / 1000) for level in LEVELS]


def percentiles(histogram: HdrHistogram) -> dict[str, float | None]:
    """Mean, percentiles and maximum in milliseconds by name; None where nothing was answered."""
    values = {name: histogram.get_value_at_percentile(level) / 1000 for name, level in _LEVELS.items()}
    values = {"mean_ms": round(histogram.get_mean_value() / 1000, 3), **values}
    return values if histogram.get_total_count() else dict.fromkeys(values)
