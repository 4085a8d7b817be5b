"""All versions of a model: what the repository says of each, and which one each server serves."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from clients.client import Client
from clients.command import text_table
from tools.repository import MANIFEST_FILE, held_versions, read_manifest, version_path
from tools.verify.verification import recorded_verdict
from tools.versions.candidates import every_version, serving
from tools.versions.replicas import Standing

State = Literal["served", "kept", "held"]


@dataclass(frozen=True)
class VersionState:
    """One version of a model.

    Attributes:
        state: in the repository: served, kept for a rollback, or held, where Triton does not look.
        server: what the running server says, such as READY, or how many of several serve it; None for no more.
        accuracy: on the test set, as its manifest has it.
        verified: whether it passed when it was last verified; None for never.
    """

    version: int
    state: State
    server: str | None
    accuracy: float | None
    verified: bool | None


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


def version_table(versions: Sequence[VersionState]) -> str:
    """A row for each version."""
    rows = [["version", "state", "accuracy", "verified", "on the server"]]
    for version in versions:
        accuracy = "-" if version.accuracy is None else f"{version.accuracy:.2%}"
        verified = {None: "-", True: "yes", False: "FAILED"}[version.verified]
        rows.append([str(version.version), version.state, accuracy, verified, version.server or "-"])
    return text_table(rows)


def replica_table(standings: Sequence[Standing], wanted: int | None) -> str:
    """A row for each replica; marked where it does not serve what the repository says."""
    rows = [["replica", "serves", ""]]
    for each in standings:
        mark = each.problem or ("" if each.version == wanted else f"differs from {wanted}")
        rows.append([str(each.replica), str(each.version or "-"), mark])
    return text_table(rows)
