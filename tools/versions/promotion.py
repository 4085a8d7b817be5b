"""A version promoted after an examination, rolled back, or removed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients.client import Client
from loadtest.analysis.intervals import paired_p_value
from tools.check.rehearsal import rehearse
from tools.repository import REPOSITORY, RepositoryError, held_versions, remove_version, versions
from tools.sign.signatures import refuse_breached
from tools.verify.verification import Verification
from tools.versions.candidates import (
    LOAD_SECONDS,
    Candidate,
    RefusedError,
    beside,
    check_policy,
    every_version,
    settle,
)
from tools.versions.choice import switch
from tools.versions.waves import Fleet, Waves, roll

if TYPE_CHECKING:
    from tools.verify.verifier import Verifier

# A candidate is worse when chance would show such a loss less often than this.
_SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Promoted:
    """What is served now, and instead of what.

    Attributes:
        before: None where nothing was served.
        verification: None after a rollback.
        difference: the gain in accuracy on the same rows.
        waves: None where there is one server, or none.
    """

    model: str
    version: int
    before: int | None
    verification: Verification | None = None
    difference: float | None = None
    waves: Waves | None = None

    def document(self) -> dict[str, Any]:
        """The promotion as JSON."""
        document = {name: getattr(self, name) for name in ("model", "version", "before", "difference")}
        verification = self.verification and self.verification.document()
        return document | {"verification": verification} | (self.waves.document() if self.waves else {})


def promote(
    verifier: "Verifier",
    model: str,
    version: int,
    allow_worse: bool = False,
    public_key: Path | None = None,
    fleet: Fleet | None = None,
) -> Promoted:
    """Load a version beside the served one, warm and verify it, and then serve it in its place.

    One that is significantly less accurate than the one that it replaces is refused unless `allow_worse`; given a
    `public_key`, so is one that was not signed with the private key to it. Then a `fleet`, whose first replica is the
    verifier's server, serves it wave by wave.

    Raises:
        RefusedError: it failed; it is held, and what was served still is.
        ClientError: the server takes no load requests, or went away.
    """
    with verifier.client(timeout_s=LOAD_SECONDS) as client:
        try:
            with beside(client, model, version, verifier.repository, public_key) as candidate:
                verification, gain = examine(verifier, candidate, allow_worse)
            waves = take_over(verifier, client, candidate, fleet)
        finally:
            settle(client)
    return Promoted(model, version, candidate.before, verification, gain, waves)


def take_over(verifier: "Verifier", client: Client, candidate: Candidate, fleet: Fleet | None) -> Waves | None:
    """Have the verifier's server, or each replica of a fleet in its turn, serve a version from now on."""
    if fleet is None:
        switch(client, candidate.model, candidate.version, verifier.repository)
        return None
    from tools.verify.references import held_out  # It imports torch, which a rollback can do without.

    held = held_out(candidate.model, candidate.version, verifier.repository)[0]
    return roll(fleet, held.inputs, candidate.version, verifier.repository)


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
