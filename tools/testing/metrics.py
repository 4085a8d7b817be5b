"""Custom metrics as a model.py makes them; here they only count."""

import math
import weakref
from collections.abc import Mapping, Sequence
from enum import Enum

from tools.testing.tensors import TritonModelException

_ORPHAN = (
    "Invalid metric operation as the corresponding 'MetricFamily' has been deleted. The 'MetricFamily' object should "
    "be deleted AFTER its corresponding 'Metric' objects have been deleted."
)


class MetricKind(Enum):
    """Kinds of metrics, by Triton's numbers."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class Metric:
    """One time series; made by a family."""

    def __init__(self, kind: MetricKind, family: "MetricFamily"):
        self._kind, self._value, self._family = kind, 0.0, weakref.ref(family)

    def _check(self, action: str, name: str, *kinds: MetricKind) -> None:
        if self._family() is None:
            raise TritonModelException(f"{action}: {_ORPHAN}")
        if self._kind not in kinds:
            raise TritonModelException(f"{action}: TRITONSERVER_METRIC_KIND_{self._kind.name} does not support {name}")

    def increment(self, value: float) -> None:
        self._check("Failed to increment metric value", "Increment", MetricKind.COUNTER, MetricKind.GAUGE)
        if self._kind is MetricKind.COUNTER and value < 0:
            raise TritonModelException(
                "Failed to increment metric value: TRITONSERVER_METRIC_KIND_COUNTER can only be incremented "
                "monotonically by non-negative values."
            )
        self._value += value

    def set(self, value: float) -> None:
        self._check("Failed to set metric value", "Set", MetricKind.GAUGE)
        self._value = float(value)

    def observe(self, value: float) -> None:
        self._check("Failed to observe metric value", "Observe", MetricKind.HISTOGRAM)

    def value(self) -> float:
        self._check("Failed to get metric value", "Value", MetricKind.COUNTER, MetricKind.GAUGE)
        return self._value


class MetricFamily:
    """Metrics of one name and kind."""

    COUNTER, GAUGE, HISTOGRAM = MetricKind

    def __init__(self, name: str, description: str, kind: MetricKind):
        if not (isinstance(name, str) and isinstance(description, str) and isinstance(kind, MetricKind)):
            raise TypeError("MetricFamily(): expected a name, a description and MetricFamily.COUNTER, GAUGE or …")
        self._kind = kind

    def Metric(  # noqa: N802 (Triton's name)
        self, labels: Mapping[str, str] | None = None, buckets: Sequence[float] | None = None
    ) -> Metric:
        if labels is not None and not isinstance(labels, dict):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        if buckets is not None and not isinstance(buckets, list):
            raise TritonModelException("Failed to create metric. Buckets must be a list.")
        is_histogram = self._kind is MetricKind.HISTOGRAM
        if is_histogram and buckets is None:
            raise TritonModelException("Failed to create metric. Missing required buckets.")
        if not is_histogram and buckets is not None:
            raise TritonModelException("Failed to create metric. Unexpected buckets found.")
        if buckets and not all(below < above for below, above in zip([-math.inf, *buckets], buckets, strict=False)):
            raise TritonModelException("Error when creating Metric: buckets must ascend")
        return Metric(self._kind, self)
