"""What the engine does, as Triton's metrics under vLLM's names.

Observations are summed up here and reported once a second: each call of Triton's own histogram is a round trip between
two processes, too much for every token. The series are those of a histogram all the same: `_bucket`, `_sum`, `_count`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate, chain
from typing import Any

import triton_python_backend_utils as pb_utils

_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
FIRST, NEXT = "vllm:time_to_first_token_seconds", "vllm:time_per_output_token_seconds"
WHOLE, QUEUE = "vllm:e2e_request_latency_seconds", "vllm:request_queue_time_seconds"
READ, WRITTEN = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
ENDED = "vllm:request_success_total"
RUNNING, WAITING, USAGE = "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"
_WORDS = {
    FIRST: "Seconds from a request's arrival to its first token",
    NEXT: "Seconds between tokens of an answer",
    WHOLE: "Seconds from a request's arrival to its end",
    QUEUE: "Seconds that a request waited for room in the KV cache",
    READ: "Prompt tokens read",
    WRITTEN: "Tokens generated",
    ENDED: "Answers by the reason for which they ended",
    RUNNING: "Sequences that are being continued",
    WAITING: "Sequences that wait for room in the KV cache",
    USAGE: "Part of the KV cache that is in use, from 0 to 1",
}
_Key = tuple[str, str, str]  # Name, label, the label's value.


class Measures:
    """Counts, and the metrics that show them where the config asks for it (REPORT_CUSTOM_METRICS)."""

    def __init__(self, labels: Mapping[str, str], is_wanted: bool):
        self._labels, self._is_wanted = dict(labels), is_wanted
        self._counts: defaultdict[_Key, float] = defaultdict(float)
        self._reported: defaultdict[_Key, float] = defaultdict(float)
        # A family that is collected takes its metrics with it.
        self._families: dict[str, Any] = {}
        self._metrics: dict[_Key, Any] = {}
        for key in ((READ, "", ""), (WRITTEN, "", ""), *chain.from_iterable(_BUCKETS.values())):
            self._counts[key] = 0.0

    def count(self, name: str, amount: float, label: str = "", value: str = "") -> None:
        """Add to a counter."""
        self._counts[name, label, value] += amount

    def observe(self, name: str, seconds: float, times: int = 1) -> None:
        """Add observations of one duration to a histogram."""
        self._counts[_BUCKETS[name][bisect_left(_SECONDS, seconds)]] += times
        self._counts[f"{name}_sum", "", ""] += seconds * times
        self._counts[f"{name}_count", "", ""] += times

    def report(self, gauges: Mapping[str, float]) -> None:
        """Bring Triton's metrics up to date."""
        if not self._is_wanted:
            return
        for name, value in gauges.items():
            self._metric((name, "", ""), pb_utils.MetricFamily.GAUGE).set(value)
        for key, count in self._totals().items():
            grown = count - self._reported[key]
            if grown or key not in self._metrics:
                self._metric(key, pb_utils.MetricFamily.COUNTER).increment(grown)
                self._reported[key] = count

    def _totals(self) -> dict[_Key, float]:
        """All counters; a histogram's buckets count what is not longer, as Prometheus has it."""
        totals = dict(self._counts)
        for buckets in _BUCKETS.values():
            totals.update(zip(buckets, accumulate(totals[bucket] for bucket in buckets), strict=True))
        return totals

    def _metric(self, key: _Key, kind: Any) -> Any:
        if key not in self._metrics:
            name, label, value = key
            if name not in self._families:
                words = _WORDS.get(name) or _WORDS[name.rsplit("_", 1)[0]]
                self._families[name] = pb_utils.MetricFamily(name=name, description=words, kind=kind)
            labels = self._labels | ({label: value} if label else {})
            self._metrics[key] = self._families[name].Metric(labels=labels)
        return self._metrics[key]


def _buckets(name: str) -> list[_Key]:
    return [(f"{name}_bucket", "le", str(bound)) for bound in (*_SECONDS, "+Inf")]


_BUCKETS = {name: _buckets(name) for name in (FIRST, NEXT, WHOLE, QUEUE)}
