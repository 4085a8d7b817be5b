"""The trial of a candidate on live traffic: what a share of the requests showed, and the decision that follows.

Each request of the share is answered by both models. A sequential test watches each of three things: whether the
candidate answers, whether it agrees with the model, and whether it is slower. One bad verdict ends the trial; the
candidate has passed when all three are well.
"""

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

from clients.errors import InvalidInput
from clients.router.replies import Reply, agree

Mode = Literal["shadow", "canary"]
MODES: tuple[Mode, ...] = ("shadow", "canary")
Decision = Literal["promote", "roll back"]
Verdict = Literal["well", "bad"]


@dataclass
class SequentialTest:
    """Wald's sequential probability ratio test of a failure rate: a verdict as soon as the evidence allows one.

    After each observation, it compares the likelihoods of two rates, an acceptable one (`well`) and an unacceptable one
    (`bad`). It ends when one of them is so many times likelier that a wrong verdict, in either direction, is as rare as
    `error`. Looking after every observation spoils an ordinary test; this one is made for it. See Abraham Wald,
    "Sequential Tests of Statistical Hypotheses", Annals of Mathematical Statistics 16 (1945), 117-186.

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


@dataclass(frozen=True)
class Terms:
    """The terms of a trial.

    Raises:
        InvalidInput: a value is out of range.
    """

    model: str  # what callers ask for
    candidate: str  # the model on trial in its place, on the same server
    mode: Mode = "canary"  # "canary" gives callers the candidate's answer, "shadow" only compares it
    share: float = 0.1  # of the requests that take part, 0 to 1
    # Share of requests in which both must agree. Two good models of 90 % accuracy may disagree in a tenth of their
    # answers or more: the more that is, the less a disagreement tells.
    min_agreement: float = 0.9
    max_errors: float = 0.01  # share of requests that the candidate may fail to answer
    slower: float = 1.5  # how many times as long as the model the candidate may take in half of the requests
    error: float = 0.01  # the probability of a wrong decision
    most: int = 20_000  # pairs after which a trial without a decision ends with a rollback

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidInput(f"expected mode {' or '.join(MODES)}, got '{self.mode}'")
        if not 0 < self.share <= 1:
            raise InvalidInput(f"expected a share of more than 0 and at most 1, got {self.share}")
        if not (0 < self.min_agreement < 1 and 0 < self.max_errors < 1 and 0 < self.error < 0.5 and self.slower > 0):
            raise InvalidInput(
                "expected min_agreement and max_errors between 0 and 1, error between 0 and 0.5, slower above 0"
            )


@dataclass
class Trial:
    """One candidate's trial."""

    terms: Terms
    under_way: int = 0  # requests that both models are working on
    rescued: int = 0  # requests that the candidate failed to answer and the model answered in its place
    pairs: int = 0
    protocols: Counter[str] = field(default_factory=Counter)  # the pairs by the way that they came
    tests: dict[str, SequentialTest] = field(init=False)

    def __post_init__(self) -> None:
        terms = self.terms
        tests = (
            below("errors", terms.max_errors, terms.error),
            below("disagreement", 1 - terms.min_agreement, terms.error),
            # Of two equally fast models, each is the slower one in half of the pairs.
            SequentialTest("slowness", 0.3, 0.5, terms.error),
        )
        self.tests = {test.name: test for test in tests}

    def takes_part(self) -> bool:
        """Whether a request is one of the share, by chance; none is once there is a decision."""
        return self.decision is None and random.random() < self.terms.share

    def compare(self, model: Reply, candidate: Reply | None) -> None:
        """Observe both replies to a request, None for one that did not come in time.

        A request that the model itself refuses tells nothing about the candidate.
        """
        if not model.good or self.decision is not None:
            return
        self.pairs += 1
        self.protocols[model.protocol] += 1
        self.tests["errors"].observe(candidate is None or not candidate.good)
        if candidate and candidate.good:
            self.tests["disagreement"].observe(not agree(model, candidate))
            self.tests["slowness"].observe(candidate.seconds > self.terms.slower * model.seconds)

    @property
    def decision(self) -> Decision | None:
        """What follows from the evidence; None while there is too little."""
        verdicts = [test.verdict for test in self.tests.values()]
        if "bad" in verdicts or self.pairs >= self.terms.most:
            return "roll back"
        return "promote" if all(verdict == "well" for verdict in verdicts) else None

    @property
    def reason(self) -> str:
        """Why the decision was taken; empty without one."""
        bad = [test for test in self.tests.values() if test.verdict == "bad"]
        if bad:
            return "; ".join(map(_explain, bad))
        if self.decision == "roll back":
            return f"undecided after {self.pairs} requests"
        return f"errors, disagreement and slowness are well after {self.pairs} requests" if self.decision else ""

    def document(self) -> dict[str, Any]:
        """The trial as JSON."""
        terms = {name: getattr(self.terms, name) for name in ("model", "candidate", "mode", "share")}
        return terms | {
            "pairs": self.pairs,
            "protocols": dict(self.protocols),
            "rescued": self.rescued,
            "under_way": self.under_way,
            "decision": self.decision,
            "reason": self.reason,
            "tests": {name: test.document() for name, test in self.tests.items()},
        }


def _explain(test: SequentialTest) -> str:
    seen = f"{test.failures} of {test.observations} requests ({test.failures / test.observations:.1%})"
    return f"{test.name} in {seen}: a rate of {test.bad:.1%}, the limit, is likelier than an acceptable {test.well:.1%}"
