"""What a candidate must pass before any caller sees its answers: verification, and comparison with the served version.

It is queried under a name of its own beside the served version (`tools.versions.candidates`): both run on one machine.
"""

from dataclasses import replace

import numpy as np

from tools.export.pipelines import classes_of
from tools.significance import Right, paired_p_value
from tools.verify.heldout import HeldOut, held_out
from tools.verify.passes import Way, send
from tools.verify.verification import Verification
from tools.verify.verifier import Verifier
from tools.versions.candidates import Candidate, RefusedError

# A candidate is worse when chance would show such a loss less often than this.
_SIGNIFICANCE = 0.05
# How both versions are queried for the comparison.
_BATCH, _CONCURRENCY = 16, 8


def examine(verifier: Verifier, candidate: Candidate, allow_worse: bool = False) -> tuple[Verification, float | None]:
    """Verify a candidate, record that, and compare its accuracy with the served version's.

    One that is significantly less accurate is refused unless `allow_worse`.

    Returns:
        The verification, and the gain in accuracy; None where nothing is served, or the model names no classes.

    Raises:
        RefusedError: it failed its verification, or is less accurate.
    """
    model, version, before = candidate.model, candidate.version, candidate.before
    verification = replace(verifier, names={model: candidate.name}).verify(model)
    # Even a remote server was sent these very files, so there is no doubt what was verified.
    verifier.record(verification)
    if not verification.passed:
        reasons = "; ".join(verification.findings.failures)
        raise RefusedError(f"{candidate} failed its verification, and is held: {reasons}", verification)
    held = held_out(model, version, verifier.repository)[0].first(verifier.effort.limit)
    if before is None or held.labels is None:
        return verification, None
    own, served = (_right(verifier, name, held) for name in (candidate.name, model))
    gain, p_value = float(own.mean() - served.mean()), paired_p_value(own, served)
    if gain < 0 and p_value < _SIGNIFICANCE and not allow_worse:
        raise RefusedError(
            f"{candidate} is {-gain:.2%} less accurate than version {before} on the same rows (p {p_value:.1g}); it "
            f"is held, version {before} is served. --allow-worse promotes it anyway"
        )
    return verification, gain


def _right(verifier: Verifier, name: str, held: HeldOut) -> Right:
    """Which rows a model on the server answers correctly."""
    with verifier.client() as client:
        size = min(_BATCH, client.contract(name).max_batch_size)
    way = Way(verifier.effort.protocols[0], size, _CONCURRENCY)
    answered = send(verifier.connections[way.protocol], name, way, held.inputs, np.arange(held.rows))
    right: Right = classes_of(answered.outputs, held.classes) == held.labels
    return right
