"""What a verification of one version showed, and the record of it beside the version's manifest."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from clients.output import write_atomically
from tools.repository import REPOSITORY, VERIFICATION_FILE, version_path
from tools.verify.published import published_files

# What an answer is compared with: the eager network's, or the server's own answer to the same row alone.
Comparison = Literal["eager", "alone"]


@dataclass(frozen=True)
class Example:
    """One answer that is too far off: its row, how it was sent, what came and what should have come."""

    row: int
    label: str
    way: str
    output: str
    excess: float
    expected: list[object]
    served: list[object]
    compared_with: Comparison


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over one protocol with its 95 % interval, beside the eager network's on the same rows."""

    served: float
    low: float
    high: float
    expected: float
    p_value: float


@dataclass
class Findings:
    """What the passes over one version showed.

    Attributes:
        max_abs, max_rel: the largest difference from the eager answers; relative to a row's largest number.
        invariance: the largest difference between a row's answer alone and in company.
        batch: the largest average of rows computed together among passes of single-row requests.
        sent: rows sent, each as often as it was.
        too_far: how many answers were too far off, by what they were compared with.
        accuracies: by protocol.
        worst: the answers that are furthest off.
        failures: why the version must not be served.
    """

    max_abs: float = 0.0
    max_rel: float = 0.0
    invariance: float = 0.0
    batch: float | None = None
    sent: int = 0
    too_far: dict[Comparison, int] = field(default_factory=lambda: {"eager": 0, "alone": 0})
    accuracies: dict[str, Accuracy] = field(default_factory=dict)
    worst: list[Example] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verification:
    """One version, verified.

    Attributes:
        reference: what it was compared with.
        held_out: what was sent.
        rows: how many different rows; `findings.sent` counts repetitions too.
        sizes: batch sizes that were sent.
        concurrencies: requests in flight at once.
        tolerance: absolute and relative.
        server: name, version and kind: "embedded" is known to serve these files, "remote" is not.
    """

    model: str
    version: int
    reference: str
    held_out: str
    rows: int
    protocols: tuple[str, ...]
    sizes: tuple[int, ...]
    concurrencies: tuple[int, ...]
    tolerance: float
    server: Mapping[str, str]
    findings: Findings
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the version may be served."""
        return not self.findings.failures

    def document(self) -> dict[str, Any]:
        """The verification as JSON."""
        return {"passed": self.passed, **asdict(self)}


def record(verification: Verification, repository: Path = REPOSITORY) -> Path:
    """Write a verification beside the manifest, with the SHA-256 of the files that it is about."""
    model, version = verification.model, verification.version
    hashes = published_files(model, version, repository)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    path = version_path(model, version, repository) / VERIFICATION_FILE
    write_atomically(path, json.dumps({"at": at, "sha256": hashes, **verification.document()}, indent=2) + "\n")
    return path


def recorded_verdict(model: str, version: int, repository: Path = REPOSITORY) -> bool | None:
    """Whether a version passed when it was last verified; None where that is not recorded."""
    path = version_path(model, version, repository) / VERIFICATION_FILE
    return bool(json.loads(path.read_text())["passed"]) if path.is_file() else None
