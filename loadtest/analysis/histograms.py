"""HDR histograms of latencies: three significant digits over the whole range, and they add up across processes."""

import numpy as np
from hdrh.histogram import HdrHistogram

from loadtest.analysis.intervals import Values

_LONGEST_US = 60_000_000
_LEVELS = (0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97.5, 99, 99.5, 99.9)


def empty_histogram() -> HdrHistogram:
    """Make a histogram of microseconds."""
    return HdrHistogram(1, _LONGEST_US, significant_figures=3)


def record_ms(histogram: HdrHistogram, milliseconds: float) -> None:
    """Add one value."""
    histogram.record_value(min(_LONGEST_US, max(1, int(milliseconds * 1000))))


def histogram_of(latencies: Values) -> HdrHistogram:
    """Make a histogram of [requests] latencies in seconds."""
    histogram = empty_histogram()
    values, counts = np.unique(np.clip(latencies * 1e6, 1, _LONGEST_US).astype(np.int64), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    return histogram


def curve(histogram: HdrHistogram) -> list[tuple[float, float]]:
    """Points (percentile, milliseconds) for a plot, denser towards the tail."""
    if not histogram.get_total_count():
        return []
    return [(level, histogram.get_value_at_percentile(level) / 1000) for level in _LEVELS]
