"""What a verification of one version showed: and its record beside the version's manifest."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from clients.output import write_atomically
from tools.repository import REPOSITORY, VERIFICATION_FILE, RepositoryError, read_manifest, version_path

# What an answer is compared with: the eager network's, or the server's own answer to the same row alone.
Comparison = Literal["eager", "alone"]


class ChangedFileError(RepositoryError):
    """A version's file is not the one that its manifest describes."""


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

    def __str__(self) -> str:
        label = f" ({self.label})" if self.label else ""
        place = f"row {self.row}{label} over {self.way}"
        lines = [f"  {place}: {self.output} is {self.excess:,.1f} times the limit off"]
        compared = "expected" if self.compared_with == "eager" else "alone"
        for side, values in ((compared, self.expected), ("served", self.served)):
            numbers = (f"{value:.4f}" if isinstance(value, float) else str(value) for value in values)
            lines.append(f"    {side:8} {' '.join(numbers)}")
        return "\n".join(lines)


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
        reference, held_out: what it was compared with, and what was sent.
        rows: how many different rows; `findings.sent` counts repetitions too.
        sizes, concurrencies: batch sizes that were sent, and requests in flight at once.
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

    def record(self, repository: Path) -> None:
        """Write the verification beside the manifest, with the SHA-256 of the files that it is about."""
        hashes = _published_files(self.model, self.version, repository)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        path = version_path(self.model, self.version, repository) / VERIFICATION_FILE
        write_atomically(path, json.dumps({"at": at, "sha256": hashes, **self.document()}, indent=2) + "\n")


def recorded_verdict(model: str, version: int, repository: Path = REPOSITORY) -> bool | None:
    """Whether a version passed when it was last verified; None where that is not recorded."""
    path = version_path(model, version, repository) / VERIFICATION_FILE
    return bool(json.loads(path.read_text())["passed"]) if path.is_file() else None


def check_files(model: str, version: int, repository: Path) -> None:
    """Raise ChangedFileError, naming the file, unless a version has the files that were published."""
    folder = version_path(model, version, repository)
    for name, expected in _published_files(model, version, repository).items():
        path = folder / name
        actual = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        if actual != expected:
            raise ChangedFileError(
                f"{path} is not what was published: expected SHA-256 {expected[:12]}, got {actual[:12]}; "
                f"export {model} again"
            )


def _published_files(model: str, version: int, repository: Path) -> dict[str, str]:
    # SHA-256 by name.
    manifest = read_manifest(model, version, repository)
    files = manifest.get("files", [manifest["file"]] if "file" in manifest else [])
    return {file["name"]: file["sha256"] for file in (*files, *([manifest["golden"]] if "golden" in manifest else []))}
