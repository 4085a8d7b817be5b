"""Publishing a version: filled, proven, described in a manifest and renamed into place."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tools.cpu_config import write_cpu_config
from tools.repository import MANIFEST_FILE, REPOSITORY, held_versions, staged_version, versions
from tools.sign.signatures import sign

# The newest release whose libtorch backend the files are written for; docker-compose.yml pulls the same one.
TRITON_CONTAINER = "nvcr.io/nvidia/tritonserver:26.09-py3"


Fill = Callable[[Path], dict[str, Any]]


def publish(
    model: str,
    fill: Fill,
    repository: Path = REPOSITORY,
    version: int | None = None,
    held: bool = False,
    private_key: Path | None = None,
) -> dict[str, Any]:
    """Publish what `fill` writes into an empty folder as a version of a model, with its manifest.

    Args:
        model: its name.
        fill: writes the model's files, proves them, and returns what it found out.
        repository: where the model has its folder.
        version: a number (default: the next).
        held: keep it from Triton until `tools.versions` promotes it.
        private_key: sign it, before anybody sees it.

    Returns:
        The manifest, as written beside the files.

    Raises:
        ProofError: what was written must not be served; the repository is as it was.
        RepositoryError: the version exists already, or the config cannot be read.
    """
    version = version or max(versions(model, repository) + held_versions(model, repository), default=0) + 1
    with staged_version(model, version, repository, held) as folder:
        evidence = fill(folder)
        manifest = {
            "model": model,
            "version": version,
            "recipe": f"tools/recipes/{model}.py",
            **evidence,
            "torch": torch.__version__,
            "triton_container": TRITON_CONTAINER,
            **fingerprint(folder),
        }
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
        write_cpu_config(model, repository)
        if private_key:
            sign(model, version, private_key, repository, folder)
    return manifest


def fingerprint(folder: Path) -> dict[str, Any]:
    """Names, sizes and SHA-256 of a version's files: `file` for the one of most models; nothing for an ensemble."""
    files = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(folder.iterdir())
    ]
    if len(files) == 1:
        return {"file": files[0]}
    return {"files": files} if files else {}
