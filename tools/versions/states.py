"""The versions of a model: where they lie, what is recorded about them, and what a server says of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clients.client import Client
from clients.command import text_table
from tools.repository import MANIFEST_FILE, RepositoryError, held_versions, read_manifest, version_path, versions
from tools.verify.verification import recorded_verdict

State = Literal["served", "kept", "held"]


@dataclass(frozen=True)
class VersionState:
    """One version of a model.

    Attributes:
        state: in the repository: served, kept for a rollback, or held, where Triton does not look.
        server: what the running server says, such as READY; None where it does not know the version.
        accuracy: on the test set, as its manifest has it.
        verified: whether it passed when it was last verified; None for never.
    """

    version: int
    state: State
    server: str | None
    accuracy: float | None
    verified: bool | None


def every_version(model: str, repository: Path) -> list[int]:
    """List served, kept and held versions, oldest first.

    Raises:
        RepositoryError: there is none.
    """
    everything = sorted(versions(model, repository) + held_versions(model, repository))
    if not everything:
        raise RepositoryError(f"{model} has no version; run `python -m tools.export {model}`")
    return everything


def serving(model: str, repository: Path) -> int | None:
    """The version that a server would serve that starts now."""
    return max(versions(model, repository), default=None)


def states(model: str, repository: Path, client: Client | None = None) -> list[VersionState]:
    """Describe all versions of a model, oldest first; with a client, also what its server says."""
    index = client.models() if client else []
    loaded = {str(entry.get("version")): entry.get("state") for entry in index if entry["name"] == model}
    held, newest, described = held_versions(model, repository), serving(model, repository), []
    for version in every_version(model, repository):
        state: State = "held" if version in held else "served" if version == newest else "kept"
        # One that was put there by hand has no manifest.
        has_manifest = (version_path(model, version, repository) / MANIFEST_FILE).is_file()
        accuracy = read_manifest(model, version, repository).get("accuracy") if has_manifest else None
        verified = recorded_verdict(model, version, repository)
        described.append(VersionState(version, state, loaded.get(str(version)), accuracy, verified))
    return described


def table(states: Sequence[VersionState]) -> str:
    """The versions for a terminal."""
    rows = [["version", "state", "accuracy", "verified", "on the server"]]
    for state in states:
        accuracy = "-" if state.accuracy is None else f"{state.accuracy:.2%}"
        verified = {None: "-", True: "yes", False: "FAILED"}[state.verified]
        rows.append([str(state.version), state.state, accuracy, verified, state.server or "-"])
    return text_table(rows)
