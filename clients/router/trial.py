"""The trial of a candidate on live traffic: what a share of the requests showed, and the decision that follows.

Each request of the share is answered by both models. A sequential test watches each of three things: whether the
candidate answers, whether it agrees with the model, and whether it is slower. One bad verdict ends the trial; the
candidate has passed when all three are well.
"""

import random
from dataclasses import dataclass, field
from typing import Any, Literal

from clients.errors import InvalidInput
from clients.router.replies import Reply, agree
from clients.router.sequential import SequentialTest, below

Mode = Literal["shadow", "canary"]
MODES: tuple[Mode, ...] = ("shadow", "canary")
Decision = Literal["promote", "roll back"]
# The rates of slow pairs: of two equally fast models, each is the slower one in half of the pairs.
_SLOW_WELL, _SLOW_BAD = 0.3, 0.5


@dataclass(frozen=True)
class Terms:
    """The terms of a trial.

    Attributes:
        model: what callers ask for.
        candidate: the model on trial in its place, on the same server.
        mode: "canary" gives callers the candidate's answer, "shadow" only compares it.
        share: of the requests that take part, 0 to 1.
        min_agreement: share of requests in which both must agree. Two good models of 90 % accuracy may disagree in a
            tenth of their answers or more: the more that is, the less a disagreement tells.
        max_errors: share of requests that the candidate may fail to answer.
        slower: how many times as long as the model the candidate may take in half of the requests.
        error: the probability of a wrong decision.
        most: pairs after which a trial without a decision ends with a rollback.

    Raises:
        InvalidInput: a value is out of range.
    """

    model: str
    candidate: str
    mode: Mode = "canary"
    share: float = 0.1
    min_agreement: float = 0.9
    max_errors: float = 0.01
    slower: float = 1.5
    error: float = 0.01
    most: int = 20_000

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
    """One candidate's trial.

    Attributes:
        under_way: requests that both models are working on.
        rescued: requests that the candidate failed to answer and the model answered in its place.
    """

    terms: Terms
    under_way: int = 0
    rescued: int = 0
    pairs: int = 0
    tests: dict[str, SequentialTest] = field(init=False)

    def __post_init__(self) -> None:
        terms = self.terms
        tests = (
            below("errors", terms.max_errors, terms.error),
            below("disagreement", 1 - terms.min_agreement, terms.error),
            SequentialTest("slowness", _SLOW_WELL, _SLOW_BAD, terms.error),
        )
        self.tests = {test.name: test for test in tests}

    def takes_part(self) -> bool:
        """Whether a request is one of the share, by chance; none is once there is a decision."""
        return self.decision is None and random.random() < self.terms.share

    def compare(self, model: Reply, candidate: Reply) -> None:
        """Observe both replies to a request; one that the model itself refuses tells nothing about the candidate."""
        if not model.good or self.decision is not None:
            return
        self.pairs += 1
        self.tests["errors"].observe(not candidate.good)
        if candidate.good:
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
            return "; ".join(f"{test.name} in {test.failures} of {test.observations} requests" for test in bad)
        if self.decision == "roll back":
            return f"undecided after {self.pairs} requests"
        return f"errors, disagreement and slowness are well after {self.pairs} requests" if self.decision else ""

    def document(self) -> dict[str, Any]:
        """The trial as JSON."""
        terms = {name: getattr(self.terms, name) for name in ("model", "candidate", "mode", "share")}
        return terms | {
            "pairs": self.pairs,
            "rescued": self.rescued,
            "under_way": self.under_way,
            "decision": self.decision,
            "reason": self.reason,
            "tests": {name: test.document() for name, test in self.tests.items()},
        }
