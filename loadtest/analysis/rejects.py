"""Requests that Triton rejected or that failed in it, from its metrics endpoint (Prometheus' text format).

Triton's statistics count failures without their reasons; its metrics have them. The counts are the server's: other
clients' requests are among them. Triton 2.51 counts as REJECTED a request that waited longer than its queue policy
allows; one that finds the queue full is counted nowhere and is only an error at the client.
"""

import http.client
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from clients.connection import ADDRESS
from clients.errors import InvalidInput

_Counts = dict[str, dict[str, int]]  # by model, then by reason

_FAILURES = "nv_inference_request_failure"
_PENDING = "nv_inference_pending_request_count"
_LABEL = r'(\w+)="((?:[^"\\]|\\.)*)"'
_SAMPLE = re.compile(rf"(\w+)\{{((?:{_LABEL},?)*)\}}\s+(\S+)")
_TIMEOUT_S = 5.0
_LAST_PORT = 65535


@dataclass(frozen=True)
class Scrape:
    """What a metrics endpoint reports at one moment.

    Attributes:
        failed: cumulative failures by model and reason (REJECTED, CANCELED, BACKEND, OTHER), all versions together.
        pending: requests by model that wait to be executed.
        problem: why there are no counts; empty when there are.
    """

    failed: _Counts = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Rejects:
    """What changed during a run.

    Attributes:
        failed: failures by model and reason, without zeros; None where they are unknown.
        pending: by how much the number of waiting requests changed, by model; None where that is unknown.
        problem: why they are unknown: an endpoint did not answer, or its counters were reset.
    """

    failed: _Counts | None
    pending: dict[str, int] | None
    problem: str | None

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
    """HOST:PORT from --metrics-url, else from TRITON_METRICS_URL, else None.

    Raises:
        InvalidInput: it is not an address.
    """
    address = option or os.environ.get("TRITON_METRICS_URL") or None
    if address is not None and not _is_address(address):
        source = "--metrics-url" if option else "TRITON_METRICS_URL of"
        raise InvalidInput(
            f"expected {source} HOST:PORT, without scheme and path, the port at most {_LAST_PORT}; got '{address}'"
        )
    return address


def _is_address(text: str) -> bool:
    return bool(ADDRESS["grpc"].fullmatch(text)) and int(text.rpartition(":")[2]) <= _LAST_PORT


def scrape(address: str) -> Scrape:
    """Read a metrics endpoint; one without counts gives a scrape with a problem."""
    connection = http.client.HTTPConnection(address, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: an impossible host name
        return Scrape(problem=f"no metrics at {address}: {error or type(error).__name__}")
    finally:
        connection.close()
    if answer.status != 200 or _FAILURES not in text:
        return Scrape(problem=f"no metrics at {address}: HTTP {answer.status} without {_FAILURES}; is it Triton's?")
    return parse(text)


def parse(text: str) -> Scrape:
    """Read the counts in a response of the endpoint, summed over the versions of each model."""
    counts = Scrape()
    for name, labels, value in _samples(text):
        model = labels.get("model", "")
        if name == _FAILURES:
            by_reason = counts.failed.setdefault(model, {})
            reason = labels.get("reason", "OTHER")  # Older servers give no reasons.
            by_reason[reason] = by_reason.get(reason, 0) + value
        elif name == _PENDING:
            counts.pending[model] = counts.pending.get(model, 0) + value
    return counts


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], int]]:
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match and (value := _whole(match[5])) is not None:
            yield match[1], dict(re.findall(_LABEL, match[2])), value


def _whole(text: str) -> int | None:
    """A whole number, which the format allows to be written as 12, 12.0 or 1.2e+01."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


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
