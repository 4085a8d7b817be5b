"""A decision as soon as the evidence allows one: Wald's sequential probability ratio test for a rate of failures.

After each observation the likelihoods of two rates are compared, one that is well and one that is not; the test ends
when one of them is so many times likelier that a wrong decision is as rare as wished, however early that is. Looking
after every observation, which spoils an ordinary test, is what this one is made for.
Abraham Wald, "Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics 16 (1945), 117-186.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

from clients.errors import InvalidInput

Verdict = Literal["well", "bad"]


@dataclass
class SequentialTest:
    """Observations of one kind of failure, and what they say.

    Attributes:
        name: what fails.
        well: a rate of failures that is no reason to worry.
        bad: a rate that must not be.
        error: how often a decision may be wrong, in either direction, at these rates.

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
        """Take one observation in."""
        self.observations += 1
        self.failures += failed

    @property
    def evidence(self) -> float:
        """Logarithm of how many times likelier the bad rate makes the observations than the one that is well."""
        successes = self.observations - self.failures
        return self.failures * math.log(self.bad / self.well) + successes * math.log((1 - self.bad) / (1 - self.well))

    @property
    def verdict(self) -> Verdict | None:
        """What the observations say; None while more are needed."""
        limit = math.log((1 - self.error) / self.error)
        if self.evidence >= limit:
            return "bad"
        return "well" if self.evidence <= -limit else None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        rate = self.failures / self.observations if self.observations else None
        return {
            "failures": self.failures,
            "observations": self.observations,
            "rate": rate,
            "well": self.well,
            "bad": self.bad,
            "evidence": round(self.evidence, 3),
            "verdict": self.verdict,
        }


def below(name: str, bad: float, error: float = 0.01) -> SequentialTest:
    """A test that a rate is below one that must not be: a third of it is well."""
    return SequentialTest(name, bad / 3, bad, error)
