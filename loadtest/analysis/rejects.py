"""Requests that Triton rejected or that failed in it, from its metrics endpoint (Prometheus' text format).

Triton's statistics have no reasons. Other clients' requests are counted too. Triton 2.51 counts as REJECTED a request
that waited longer than its queue policy allows; one that finds the queue full is only an error at the client.
"""

import http.client
import os
from dataclasses import dataclass, field

from clients.connection import is_address
from clients.errors import InvalidInput

_Counts = dict[str, dict[str, int]]  # by model, then by reason

_FAILURES = "nv_inference_request_failure"
_PENDING = "nv_inference_pending_request_count"


@dataclass(frozen=True)
class Scrape:
    """What a metrics endpoint reports at one moment; all versions of a model together."""

    failed: _Counts = field(default_factory=dict)  # cumulative; reasons are REJECTED, CANCELED, BACKEND, OTHER
    pending: dict[str, int] = field(default_factory=dict)  # requests by model that wait to be executed
    problem: str = ""  # why there are no counts; empty when there are
    has_summaries: bool = False  # whether it reports quantiles of latencies, which --metrics-config turns on
    gpu_share: float | None = None  # utilization of its busiest GPU, 0 to 1


@dataclass(frozen=True)
class Rejects:
    """What changed during a run, without zeros; None where it is unknown."""

    failed: _Counts | None
    pending: dict[str, int] | None  # by how much the number of waiting requests changed, by model
    problem: str | None  # why they are unknown: an endpoint did not answer, or its counters were reset

    def sentences(self) -> list[str]:
        """What to report beside a run's figures."""
        if self.failed is None or self.pending is None:
            return [f"Requests that Triton rejected are not counted: {self.problem}"]
        lines = [
            f"{name}: Triton counted failed requests: {', '.join(f'{count:,} {why}' for why, count in reasons.items())}"
            for name, reasons in self.failed.items()
        ]
        return lines + [
            f"{name}: {abs(count):,} {'more' if count > 0 else 'fewer'} requests wait in Triton than before the run"
            for name, count in self.pending.items()
        ]


def metrics_address(option: str | None) -> str | None:
    """HOST:PORT from --metrics-url, else from TRITON_METRICS_URL, else None; raises InvalidInput for no address."""
    address = option or os.environ.get("TRITON_METRICS_URL") or None
    if address and not is_address(address):
        source = "--metrics-url" if option else "TRITON_METRICS_URL of"
        raise InvalidInput(
            f"expected {source} HOST:PORT, without scheme and path, the port at most 65535; got '{address}'"
        )
    return address


def scrape(address: str) -> Scrape:
    """Read a metrics endpoint; one without counts gives a scrape with a problem."""
    connection = http.client.HTTPConnection(address, timeout=5.0)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        if answer.status != 200 or _FAILURES not in text:
            return Scrape(problem=f"no metrics at {address}: HTTP {answer.status} without {_FAILURES}; is it Triton's?")
        return parse(text)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an impossible host name, or text
        return Scrape(problem=f"no metrics at {address}: {error or type(error).__name__}")
    finally:
        connection.close()


def parse(text: str) -> Scrape:
    """Read the counts in a response of the endpoint, summed over the versions of each model.

    Raises:
        ValueError: the text is not in Prometheus' format.
    """
    from prometheus_client.parser import text_string_to_metric_families

    # By the name of their family: samples of counters are called otherwise.
    samples = [(family.name, sample) for family in text_string_to_metric_families(text) for sample in family.samples]
    gpus = [sample.value for name, sample in samples if name == "nv_gpu_utilization"]
    counts = Scrape(has_summaries="nv_inference_request_summary_us" in text, gpu_share=max(gpus, default=None))
    for name, sample in samples:
        model = sample.labels.get("model", "")
        if name == _FAILURES:
            by_reason = counts.failed.setdefault(model, {})
            reason = sample.labels.get("reason", "OTHER")  # Older servers give no reasons.
            by_reason[reason] = by_reason.get(reason, 0) + int(sample.value)
        elif name == _PENDING:
            counts.pending[model] = counts.pending.get(model, 0) + int(sample.value)
    return counts


def rejects(before: Scrape | None, after: Scrape | None, models: set[str]) -> Rejects | None:
    """Compare two scrapes for some models; None where there was no scrape."""
    if before is None or after is None:
        return None
    if problem := before.problem or after.problem:
        return Rejects(None, None, problem)
    failed = {name: _change(before.failed.get(name, {}), after.failed.get(name, {})) for name in sorted(models)}
    if any(count < 0 for reasons in failed.values() for count in reasons.values()):
        return Rejects(None, None, "Triton's counters were reset during the run")
    pending = _change(before.pending, {name: after.pending.get(name, 0) for name in sorted(models)})
    return Rejects({name: reasons for name, reasons in failed.items() if reasons}, pending, None)


def _change(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
