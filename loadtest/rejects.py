"""Requests that Triton rejected or that failed in it, from its metrics endpoint (Prometheus' text format).

The statistics that Triton gives over its other protocols count failures without their reasons. These counts are the
server's: where others use it too, they are not of this test alone. Triton 2.51 counts as REJECTED what has waited
longer than a queue policy allows; a request that finds the queue full is in no count of its, only an error here.
"""

import http.client
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clients.connection import ADDRESS
from clients.errors import InvalidInput

Document = dict[str, Any]
Counts = dict[str, dict[str, int]]  # by model, then by what is counted

FAILURES = "nv_inference_request_failure"
PENDING = "nv_inference_pending_request_count"
LABEL = r'(\w+)="((?:[^"\\]|\\.)*)"'
SAMPLE = re.compile(rf"(\w+)\{{((?:{LABEL},?)*)\}}\s+(\S+)")
TIMEOUT_S = 5.0
LAST_PORT = 65535


@dataclass(frozen=True)
class Scrape:
    """What a metrics endpoint says at one moment.

    Attributes:
        failed: cumulative failures by model and reason (REJECTED, CANCELED, BACKEND, OTHER), all versions together.
        pending: requests by model that wait to be executed.
        problem: why there are no counts; empty when there are.
    """

    failed: Counts = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    problem: str = ""


def metrics_address(given: str | None) -> str | None:
    """HOST:PORT as given, else TRITON_METRICS_URL's, else None.

    Raises:
        InvalidInput: it is no address.
    """
    address = given or os.environ.get("TRITON_METRICS_URL") or None
    if address is not None and not is_address(address):
        source = "--metrics-url" if given else "TRITON_METRICS_URL of"
        raise InvalidInput(
            f"expected {source} HOST:PORT, without scheme and path, the port at most {LAST_PORT}; got '{address}'"
        )
    return address


def is_address(text: str) -> bool:
    """Whether it is HOST:PORT with a port that can be."""
    return bool(ADDRESS["grpc"].fullmatch(text)) and int(text.rpartition(":")[2]) <= LAST_PORT


def scrape(address: str) -> Scrape:
    """Ask a metrics endpoint; one that gives no counts is a scrape with a problem."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # UnicodeError: of an impossible host name
        return Scrape(problem=f"no metrics at {address}: {error or type(error).__name__}")
    finally:
        connection.close()
    if answer.status != 200 or FAILURES not in text:
        return Scrape(problem=f"no metrics at {address}: HTTP {answer.status} without {FAILURES}; is it Triton's?")
    return parsed(text)


def parsed(text: str) -> Scrape:
    """The counts in an answer of the endpoint, summed over the versions of each model."""
    found = Scrape()
    for name, labels, value in samples(text):
        model = labels.get("model", "")
        if name == FAILURES:
            by_reason = found.failed.setdefault(model, {})
            reason = labels.get("reason", "OTHER")  # Older servers do not give reasons.
            by_reason[reason] = by_reason.get(reason, 0) + value
        elif name == PENDING:
            found.pending[model] = found.pending.get(model, 0) + value
    return found


def samples(text: str) -> Iterator[tuple[str, dict[str, str], int]]:
    """Name, labels and value of every sample that has labels and is a whole number."""
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match and (value := whole(match[5])) is not None:
            yield match[1], dict(re.findall(LABEL, match[2])), value


def whole(text: str) -> int | None:
    """The value of a sample, which the format lets be written as 12, 12.0 or 1.2e+01; None if it is no whole number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def rejects(before: Scrape | None, after: Scrape | None, models: set[str]) -> Document | None:
    """What changed in between, for some models.

    Returns:
        `failed` by model and reason and `pending` by model, changes other than zero; `problem` with None for both
        where an endpoint did not answer, or its counts began anew. None when none was asked.
    """
    if before is None or after is None:
        return None
    if problem := before.problem or after.problem:
        return {"failed": None, "pending": None, "problem": problem}
    failed = {name: change(before.failed.get(name, {}), after.failed.get(name, {})) for name in sorted(models)}
    if any(count < 0 for one in failed.values() for count in one.values()):
        return {"failed": None, "pending": None, "problem": "Triton or a model began to count anew during the run"}
    pending = change(before.pending, {name: after.pending.get(name, 0) for name in sorted(models)})
    return {"failed": {name: one for name, one in failed.items() if one}, "pending": pending, "problem": None}


def change(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """By how much counts changed, where they did."""
    return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def sentences(server: Document) -> list[str]:
    """What must be said of them beside a run's figures."""
    found = server.get("rejects")
    if not found:
        return []
    if found["problem"]:
        return [f"Requests that Triton rejected are not counted: {found['problem']}"]
    lines = [
        f"{name}: Triton counted failed requests: {', '.join(f'{count:,} {why}' for why, count in reasons.items())}"
        for name, reasons in found["failed"].items()
    ]
    return lines + [
        f"{name}: {abs(count):,} {'more' if count > 0 else 'fewer'} requests wait in Triton than before the run"
        for name, count in found["pending"].items()
    ]
