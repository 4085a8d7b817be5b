"""What a candidate has to stand before any caller sees an answer of it: its verification, and the served version.

It is asked under its own name beside the served version (`tools.promoting.candidates`): both answer on one machine.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from clients.errors import ToolError
from tools.export.pipelines import classes_of
from tools.significance import Right, paired_p_value
from tools.verify.heldout import HeldOut, held_out
from tools.verify.passes import Target, Way, go
from tools.verify.verification import Verification, Verifier, record

# A candidate is worse when chance would show such a loss less often than this.
SIGNIFICANCE = 0.05
# How the two versions are asked for a comparison.
BATCH, CALLERS = 16, 8


class RefusedError(ToolError):
    """A version was not promoted; what was served before still is. The message says why."""

    exit_code = 1

    def __init__(self, message: str, verification: Verification | None = None):
        super().__init__(message)
        self.verification = verification


def examine(
    verifier: Verifier, model: str, name: str, version: int, before: int | None, repository: Path
) -> tuple[Verification, tuple[float, float] | None]:
    """Verify a candidate, and compare it with the served version; returns its gain in accuracy, and how sure it is.

    Raises:
        RefusedError: it answers otherwise than it should.
    """
    verification = replace(verifier, names={model: name}).verify(model)
    if verifier.effort.limit is None:
        # The server was sent these very files, so that there is no doubt what was verified.
        record(verification, repository)
    if not verification.passed:
        reasons = "; ".join(verification.findings.failures)
        raise RefusedError(f"{model} version {version} failed, and is held: {reasons}", verification)
    held = held_out(model, version, repository)[0].first(verifier.effort.limit)
    if before is None or held.labels is None:
        return verification, None
    own, served = (right(verifier, each, held) for each in (name, model))
    return verification, (float(own.mean() - served.mean()), paired_p_value(own, served))


def refuse_worse(
    model: str, version: int, before: int | None, verification: Verification, gain: tuple[float, float] | None
) -> None:
    """Raise RefusedError for a version that is significantly less accurate than the one that it would replace."""
    if gain and gain[0] < 0 and gain[1] < SIGNIFICANCE:
        raise RefusedError(
            f"{model} version {version} is {-gain[0]:.2%} less accurate than version {before} on the same rows "
            f"(p {gain[1]:.1g}); it is held, version {before} is served. --allow-worse promotes it all the same",
            verification,
        )


def right(verifier: Verifier, name: str, held: HeldOut) -> Right:
    """Which rows a model on the server answers rightly."""
    with verifier.client() as client:
        size = min(BATCH, client.contract(name).max_batch_size)
    way = Way(verifier.effort.protocols[0], size, CALLERS)
    one = go(verifier.reached[way.protocol], Target(name, "", name), way, held.inputs, np.arange(held.rows))
    answer: Right = classes_of(one.outputs, held.classes) == held.labels
    return answer
