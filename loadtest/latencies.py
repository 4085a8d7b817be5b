"""Latencies at microsecond resolution, merged over workers.

Locust's own percentiles are rounded to two digits; these come from an HDR histogram per model with three significant
digits over the whole range, which workers send to the master with their usual reports.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from hdrh.histogram import HdrHistogram

if TYPE_CHECKING:
    # Importing Locust replaces the process's sockets by gevent's, which asyncio does not get on with.
    from locust.env import Environment

    from loadtest.intervals import Values

LONGEST_US = 60_000_000
DIGITS = 3
KEY, LATENESS = "latencies", "lateness"


class Latencies:
    """The histograms of one test, by model; attached to a Locust environment for its whole life.

    Attributes:
        lateness: by how much users were late at their turns, of a test by a schedule.
    """

    def __init__(self, environment: "Environment"):
        self.histograms: dict[str, HdrHistogram] = {}
        self.lateness = empty()
        events = environment.events
        events.request.add_listener(self.on_request)
        events.report_to_master.add_listener(self.on_report_to_master)
        events.worker_report.add_listener(self.on_worker_report)
        events.test_start.add_listener(self.clear)

    def clear(self, **_: Any) -> None:
        """Forget everything."""
        self.histograms.clear()
        self.lateness = empty()

    def on_late(self, seconds: float) -> None:
        """Record by how much a user was late."""
        record(self.lateness, seconds * 1000)

    def on_request(self, name: str, response_time: float, exception: BaseException | None, **_: Any) -> None:
        """Record one answered request; failures are counted by Locust and have no place among latencies."""
        if exception is None:
            record(self.histogram(name), response_time)

    def on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        """Hand over what was recorded since the last report."""
        data[KEY] = {name: histogram.encode() for name, histogram in self.histograms.items()}
        data[LATENESS] = self.lateness.encode()
        self.clear()

    def on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        """Add a worker's report to the master's histograms."""
        for name, encoded in data.get(KEY, {}).items():
            self.histogram(name).decode_and_add(encoded)
        if LATENESS in data:
            self.lateness.decode_and_add(data[LATENESS])

    def histogram(self, name: str) -> HdrHistogram:
        """One model's histogram, in microseconds."""
        if name not in self.histograms:
            self.histograms[name] = empty()
        return self.histograms[name]

    def total(self) -> HdrHistogram:
        """All models together."""
        total = empty()
        for histogram in self.histograms.values():
            total.add(histogram)
        return total


def empty() -> HdrHistogram:
    """A histogram of microseconds."""
    return HdrHistogram(1, LONGEST_US, DIGITS)


def record(histogram: HdrHistogram, milliseconds: float) -> None:
    """Add one value."""
    histogram.record_value(min(LONGEST_US, max(1, int(milliseconds * 1000))))


def histogram_of(latencies: "Values") -> HdrHistogram:
    """The histogram of [requests] latencies in seconds; such histograms of several runs can be added."""
    histogram = empty()
    values, counts = np.unique(np.clip(latencies * 1e6, 1, LONGEST_US).astype(np.int64), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    return histogram


def percentiles(histogram: HdrHistogram) -> dict[str, float | None]:
    """Mean, percentiles and maximum in milliseconds; None when nothing was answered."""
    answered = histogram.get_total_count() > 0
    levels = {"p50_ms": 50, "p90_ms": 90, "p95_ms": 95, "p99_ms": 99, "p99.9_ms": 99.9, "max_ms": 100}
    values = {name: histogram.get_value_at_percentile(level) / 1000 for name, level in levels.items()}
    values = {"mean_ms": round(histogram.get_mean_value() / 1000, 3), **values}
    return values if answered else dict.fromkeys(values)


def curve(histogram: HdrHistogram) -> list[tuple[float, float]]:
    """Points (percentile, milliseconds) for a plot, denser towards the tail."""
    if not histogram.get_total_count():
        return []
    levels = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99, 99.5, 99.9)
    return [(level, histogram.get_value_at_percentile(level) / 1000) for level in levels]
