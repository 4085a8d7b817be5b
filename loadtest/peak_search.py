"""The search for the highest rate that a server sustains."""

from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest import slo
from loadtest.belief import Belief
from loadtest.intervals import needed
from loadtest.load import Load
from loadtest.measurement import Document

CALLERS = 64  # of the closed loop that finds the order of magnitude


SPAN = (1 / 50, 2.0)  # of its throughput: where the peak is looked for


MOST_INVALID = 3  # trials in a row of which the generator was the bottleneck


LONGEST_TRIAL_S = 60.0


Trial = Callable[[Load], Document]


@dataclass
class Search:
    """What is believed and was tried.

    Attributes:
        belief: where the peak is.
        tried: the documents of valid trials with their verdicts.
        invalid: trials in a row that said nothing.
    """

    belief: Belief
    tried: list[Document] = field(default_factory=list)
    invalid: int = 0

    def note(self, document: Document) -> None:
        """Learn from a trial."""
        if not document["valid"]:
            self.invalid += 1
            return
        self.invalid = 0
        sustained = bool(document["passed"] and document["steady"])
        self.belief = self.belief.after(document["rate"], sustained)
        self.tried.append({**document, "sustained": sustained})

    def narrow(self, precision: float) -> bool:
        """Whether the interval is as narrow as wanted."""
        low, high = self.belief.interval()
        return high <= low * (1 + precision)


def trial_seconds(rate: float, least: float, objectives: list[slo.Objective]) -> float:
    """How long a trial must be for its percentiles to have enough requests, with some to spare."""
    shares = [share for name, share in slo.PERCENTILES.items() if f"{name}_ms" in {one.figure for one in objectives}]
    return max([least, *(1.3 * needed(share) / rate for share in shares)])
