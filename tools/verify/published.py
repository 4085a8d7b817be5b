"""The files that a version was published with, as its manifest has them, and whether they are still the same."""

import hashlib
from pathlib import Path

from tools.repository import RepositoryError, read_manifest, version_path


class ChangedFileError(RepositoryError):
    """A version's file is not the one that its manifest describes."""


def check_files(model: str, version: int, repository: Path) -> None:
    """Check that a version's files are those that were published.

    Raises:
        ChangedFileError: one is missing or has another content; it is named.
    """
    folder = version_path(model, version, repository)
    for name, expected in published_files(model, version, repository).items():
        path = folder / name
        actual = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"
        if actual != expected:
            raise ChangedFileError(
                f"{path} is not what was published: expected SHA-256 {expected[:12]}, got {actual[:12]}; "
                f"export {model} again"
            )


def published_files(model: str, version: int, repository: Path) -> dict[str, str]:
    """The SHA-256 by name of each file that a version was published with."""
    manifest = read_manifest(model, version, repository)
    files = manifest.get("files", [manifest["file"]] if "file" in manifest else [])
    return {file["name"]: file["sha256"] for file in files}
