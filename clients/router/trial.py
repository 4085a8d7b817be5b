"""The trial of a candidate on live traffic: what a share of the requests showed, and what follows from it.

Each request of the share is answered by both models. Three things are watched, each by a sequential test: whether the
candidate answers at all, whether it says the same, and whether it is slower. One that is bad ends the trial; the
candidate has stood it when all three are well.
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
# A pair is slow if the candidate takes so many times as long; of two equal models each is the slower one half the time.
SLOWER = 1.5
SLOW_WELL, SLOW_BAD = 0.3, 0.5


@dataclass(frozen=True)
class Terms:
    """What a trial is about.

    Attributes:
        model: what callers ask for.
        candidate: the model that is tried in its place, on the same server.
        mode: "canary" gives callers the candidate's answer, "shadow" only compares it.
        share: of the requests that take part, 0 to 1.
        min_agreement: share of requests in which both must say the same. Two good models of 90 % accuracy may differ
            in a tenth of their answers or more: the more that is, the less a disagreement says.
        max_errors: share of requests that the candidate may leave unanswered.
        slower: how many times as long as the model the candidate may take for half of the requests.
        error: how often a decision may be wrong.
        most: pairs after which a trial without a decision ends: what is not seen to be well is rolled back.

    Raises:
        InvalidInput: one of these cannot be.
    """

    model: str
    candidate: str
    mode: Mode = "canary"
    share: float = 0.1
    min_agreement: float = 0.9
    max_errors: float = 0.01
    slower: float = SLOWER
    error: float = 0.01
    most: int = 20_000

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidInput(f"expected mode {' or '.join(MODES)}, got '{self.mode}'")
        if not 0 < self.share <= 1:
            raise InvalidInput(f"expected a share of more than 0 and at most 1, got {self.share}")
        if not (0 < self.min_agreement < 1 and 0 < self.max_errors < 1 and 0 < self.error < 0.5 and self.slower > 0):
            raise InvalidInput(
                "expected min_agreement and max_errors within 0 and 1, error within 0 and 0.5, slower > 0"
            )


@dataclass
class Trial:
    """One candidate's trial.

    Attributes:
        under_way: requests that both models work on now.
        rescued: requests that the candidate left unanswered and the model answered in its place.
    """

    terms: Terms
    under_way: int = 0
    rescued: int = 0
    pairs: int = 0
    tests: dict[str, SequentialTest] = field(default_factory=dict)

    def __post_init__(self) -> None:
        terms = self.terms
        self.tests = {
            "errors": below("errors", terms.max_errors, terms.error),
            "disagreement": below("disagreement", 1 - terms.min_agreement, terms.error),
            "slowness": SequentialTest("slowness", SLOW_WELL, SLOW_BAD, terms.error),
        }

    def takes_part(self) -> bool:
        """Whether a request is one of the share; none is once there is a decision."""
        return self.decision is None and random.random() < self.terms.share

    def compare(self, model: Reply, candidate: Reply) -> None:
        """Take in how both answered a request; one that the model itself refuses says nothing about the candidate."""
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
        """The decision's reason in words; empty without one."""
        bad = [test for test in self.tests.values() if test.verdict == "bad"]
        if bad:
            return "; ".join(f"{test.name} in {test.failures} of {test.observations} requests" for test in bad)
        if self.decision == "roll back":
            return f"undecided after {self.pairs} requests"
        return f"errors, disagreement and slowness are well after {self.pairs} requests" if self.decision else ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": self.terms.model,
            "candidate": self.terms.candidate,
            "mode": self.terms.mode,
            "share": self.terms.share,
            "pairs": self.pairs,
            "rescued": self.rescued,
            "under_way": self.under_way,
            "decision": self.decision,
            "reason": self.reason,
            "tests": {name: test.document() for name, test in self.tests.items()},
        }
