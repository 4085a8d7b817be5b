"""What is wrong with a server, in the order in which it should be mended."""

from dataclasses import asdict, dataclass
from typing import Any

from loadtest.analysis.result import Finding
from tools.check.finding import Severity

_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Diagnosis:
    """One finding about a server or one of its models.

    Attributes:
        url: of the server.
        model: empty for the server itself.
        proof: the command that shows it now, and that it is gone later.
        callers: requests that were under way at once, for a measurement.
    """

    severity: Severity
    url: str
    model: str
    finding: Finding
    proof: str
    callers: int = 1

    @property
    def rank(self) -> tuple[int, float]:
        """The worst first, then what should pay most."""
        predicted = self.finding.predicted
        return _SEVERITIES.index(self.severity), -(predicted.factor if predicted else 1.0)

    @property
    def is_serious(self) -> bool:
        """Whether it makes a server ill; the others are notes."""
        return self.severity != "info"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        document, predicted = asdict(self), self.finding.predicted
        finding = document.pop("finding")
        return {**document, **finding, "factor": predicted and round(predicted.factor, 2)}

    def __str__(self) -> str:
        return f"{self.model or self.url}: {self.finding.bound}: {self.finding.why}"
