"""A decision as soon as the evidence allows one: Wald's sequential probability ratio test of a failure rate.

After each observation, the test compares the likelihoods of two rates, an acceptable one ("well") and an unacceptable
one ("bad"). It ends when one of them is so many times likelier that a wrong decision is as rare as required. Looking
after every observation spoils an ordinary test; this one is made for it. See Abraham Wald, "Sequential Tests of
Statistical Hypotheses", Annals of Mathematical Statistics 16 (1945), 117-186.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from clients.errors import InvalidInput

Verdict = Literal["well", "bad"]


@dataclass
class SequentialTest:
    """Observations of one kind of failure, and the verdict that they allow.

    Attributes:
        name: what fails.
        well: an acceptable failure rate.
        bad: an unacceptable one.
        error: the probability of a wrong verdict, in either direction, at these rates.

    Raises:
        InvalidInput: the rates are not 0 < well < bad < 1.
    """

    name: str
    well: float
    bad: float
    error: float = 0.01
    failures: int = 0
    observations: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.well < self.bad < 1:
            raise InvalidInput(f"{self.name}: expected rates 0 < well < bad < 1, got {self.well:g} and {self.bad:g}")

    def observe(self, failed: bool) -> None:
        """Add one observation."""
        self.observations += 1
        self.failures += failed

    @property
    def evidence(self) -> float:
        """The log-likelihood ratio of the bad rate to the acceptable one."""
        successes = self.observations - self.failures
        return self.failures * math.log(self.bad / self.well) + successes * math.log((1 - self.bad) / (1 - self.well))

    @property
    def verdict(self) -> Verdict | None:
        """What the observations show; None while more are needed."""
        limit = math.log((1 - self.error) / self.error)
        if self.evidence >= limit:
            return "bad"
        return "well" if self.evidence <= -limit else None

    def document(self) -> dict[str, Any]:
        """The test as JSON."""
        return {
            "failures": self.failures,
            "observations": self.observations,
            "rate": self.failures / self.observations if self.observations else None,
            "well": self.well,
            "bad": self.bad,
            "evidence": round(self.evidence, 3),
            "verdict": self.verdict,
        }


def below(name: str, bad: float, error: float = 0.01) -> SequentialTest:
    """Test that a failure rate is below an unacceptable one; a third of it is acceptable."""
    return SequentialTest(name, bad / 3, bad, error)
