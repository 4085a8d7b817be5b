"""Requests that Triton rejected or that failed in it, from its metrics endpoint (Prometheus' text format).

The statistics that Triton gives over its other protocols count failures without their reasons. These counts are the
server's: where others use it too, they are not of this test alone.
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
    if address is not None and not ADDRESS["grpc"].fullmatch(address):
        raise InvalidInput(f"expected --metrics-url HOST:PORT, without scheme and path; got '{address}'")
    return address


def scrape(address: str) -> Scrape:
    """Ask a metrics endpoint; one that gives no counts is a scrape with a problem."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
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
        if match and match[5].isdecimal():
            yield match[1], dict(re.findall(LABEL, match[2])), int(match[5])


def rejects(before: Scrape | None, after: Scrape | None, models: set[str]) -> Document | None:
    """What changed in between, for some models.

    Returns:
        `failed` by model and reason and `pending` by model, changes other than zero; `problem` with None for both
        where an endpoint did not answer. None when none was asked.
    """
    if before is None or after is None:
        return None
    if problem := before.problem or after.problem:
        return {"failed": None, "pending": None, "problem": problem}
    failed = {name: change(before.failed.get(name, {}), after.failed.get(name, {})) for name in sorted(models)}
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
    return lines + [f"{name}: {count:+,} requests wait in Triton" for name, count in found["pending"].items()]
