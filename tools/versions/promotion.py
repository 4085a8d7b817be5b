"""Which version of a model is served: promoted after an examination, rolled back, removed.

What is served is what Triton sees: the newest version folder. A version that is not to be served lies in `.held/`,
where Triton does not look. So the state is the repository itself, and holds for every server that starts on it, in any
control mode. A load request with another version policy would hold only until the server restarts, and a policy in a
file would have to be repeated in config.pbtxt, which people own, and in each config derived from it.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.client import Client
from clients.errors import ClientError, ServerFailed
from loadtest.analysis.intervals import paired_p_value
from tools.check.rehearsal import rehearse
from tools.repository import REPOSITORY, RepositoryError, held_versions, hold, release, remove_version, versions
from tools.sign.signatures import refuse_breached
from tools.verify.verification import Verification
from tools.versions.candidates import (
    Candidate,
    RefusedError,
    beside,
    check_policy,
    every_version,
    served_version,
    settle,
)

if TYPE_CHECKING:
    from tools.verify.verifier import Verifier

LOAD_SECONDS = 300.0
# A candidate is worse when chance would show such a loss less often than this.
_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Promoted:
    """What is served now, and instead of what.

    Attributes:
        before: None where nothing was served.
        verification: None after a rollback.
        difference: the gain in accuracy on the same rows.
    """

    model: str
    version: int
    before: int | None
    verification: Verification | None = None
    difference: float | None = None

    def document(self) -> dict[str, Any]:
        """The promotion as JSON."""
        return {**asdict(self), "verification": self.verification and self.verification.document()}


def promote(
    verifier: "Verifier", model: str, version: int, allow_worse: bool = False, public_key: Path | None = None
) -> Promoted:
    """Load a version beside the served one, warm and verify it, and then serve it in its place.

    One that is significantly less accurate than the one that it replaces is refused unless `allow_worse`; given a
    `public_key`, so is one that was not signed with the private key to it.

    Raises:
        RefusedError: it failed; it is held, and what was served still is.
        ClientError: the server takes no load requests, or went away.
    """
    with verifier.client(timeout_s=LOAD_SECONDS) as client:
        try:
            with beside(client, model, version, verifier.repository, public_key) as candidate:
                verification, gain = examine(verifier, candidate, allow_worse)
            switch(client, model, version, verifier.repository)
        finally:
            settle(client)
    return Promoted(model, version, candidate.before, verification, gain)


def examine(verifier: "Verifier", candidate: Candidate, allow_worse: bool = False) -> tuple[Verification, float | None]:
    """Verify a candidate, record that, and compare its accuracy with the served version's, beside which it runs.

    Raises RefusedError if it failed, or is significantly less accurate, unless `allow_worse`. Returns the verification,
    and the gain in accuracy; None where nothing is served, or the model names no classes.
    """
    from tools.verify.references import held_out  # It imports torch, which a rollback can do without.

    model, version, before = candidate.model, candidate.version, candidate.before
    verification = replace(verifier, names={model: candidate.name}).verify(model)
    if not verification.passed:
        reasons = "; ".join(verification.findings.failures)
        raise RefusedError(f"{candidate} failed its verification, and is held: {reasons}", verification)
    held = held_out(model, version, verifier.repository)[0].first(verifier.effort.limit)
    if before is None or held.labels is None:
        return verification, None
    own, served = (verifier.is_right(name, held) for name in (candidate.name, model))
    gain, p_value = float(own.mean() - served.mean()), paired_p_value(own, served)
    if gain < 0 and p_value < _SIGNIFICANCE and not allow_worse:
        raise RefusedError(
            f"{candidate} is {-gain:.2%} less accurate than version {before} on the same rows (p {p_value:.1g}); it "
            f"is held, version {before} is served. --allow-worse promotes it anyway"
        )
    return verification, gain


def switch(client: Client | None, model: str, version: int, repository: Path) -> None:
    """Make a version the newest that Triton sees, and have the server load it; without a server it finds it later.

    If it fails to load, everything is as it was, and RefusedError is raised; RepositoryError if another model would
    fail for its sake.
    """
    visible = versions(model, repository)
    newer = [number for number in visible if number > version]
    was_held, before = version in held_versions(model, repository), max(visible, default=None)

    def choose(place: Path) -> None:
        # In this order a server that starts in between finds the old version or the new one, and no third.
        if was_held:
            release(model, version, place)
        for number in newer:
            hold(model, number, place)

    rehearse(repository, choose)
    choose(repository)
    if client is None:
        return
    try:
        client.load(model)
        served = served_version(client, model)
        if served != version:
            raise ServerFailed(f"the server serves version {served}; is {repository} the repository that it serves?")
    except ClientError as error:
        for number in newer:
            release(model, number, repository)
        if was_held:
            hold(model, version, repository)
        still = f"version {before} is still served" if before else "none is served"
        raise RefusedError(f"{model} version {version} failed to load; {still}: {error}") from error


def rollback(
    client: Client | None, model: str, repository: Path = REPOSITORY, public_key: Path | None = None
) -> Promoted:
    """Serve the version before the newest one again, and hold the newest; a server finds it later without a client.

    Raises:
        RepositoryError: there is no earlier version, or it is not what was signed; nothing has changed.
        RefusedError: it failed to load; everything is as it was.
    """
    check_policy(model, repository)
    visible = versions(model, repository)
    if len(visible) < 2:
        held = ", ".join(map(str, held_versions(model, repository))) or "none"
        raise RepositoryError(
            f"{model} has no earlier version to roll back to (held: {held}); promote one by its number"
        )
    *_, before, newest = visible
    if public_key:
        refuse_breached([(model, before)], public_key, repository)
    switch(client, model, before, repository)
    if client:
        settle(client)
    return Promoted(model, before, newest)


def prune(model: str, keep: int, repository: Path = REPOSITORY) -> list[int]:
    """Remove all versions but the newest `keep`, the served one, and the one for a rollback; returns the removed."""
    everything = every_version(model, repository)
    spared = {*everything[-keep:], *versions(model, repository)[-2:]}
    removed = [version for version in everything if version not in spared]

    def remove(place: Path) -> None:
        for version in removed:
            remove_version(model, version, place)

    rehearse(repository, remove)
    remove(repository)
    return removed
