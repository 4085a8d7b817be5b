"""Publishing a version: files written and proven, described by a manifest, and renamed into place."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.cpu_config import write_cpu_config
from tools.repository import GOLDEN_FILE, MANIFEST_FILE, RECIPES, REPOSITORY, ROOT, next_version, staged_version
from tools.sign.signatures import sign

# The newest release whose libtorch backend the files are written for; docker-compose.yml pulls the same one.
TRITON_CONTAINER = "nvcr.io/nvidia/tritonserver:26.09-py3"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """How a version's files were made and what was proven about them; None for whatever does not apply."""

    parent: str | None = None
    parent_accuracy: float | None = None
    teacher: str | None = None
    prepares: str | None = None  # The classifier whose input a step makes.
    sources: Mapping[str, str] | None = None  # Paths in this repository by name, of a Python step's files.
    steps: Mapping[str, int] | None = None  # Versions of an ensemble's members.
    classifier: str | None = None
    classifier_accuracy: float | None = None
    imported: Mapping[str, Any] | None = None  # Where the network comes from, with SHA-256 of the files.
    training: Mapping[str, Any] | None = None  # The training's settings.
    checkpoint: str | None = None  # Name of the file with the trained weights.
    data: Mapping[str, Any] | None = None  # The data set on which the accuracy was measured.
    accuracy: float | None = None  # Of the published file, on `test_images` images of the data set.
    test_images: int | None = None
    parameters: int | None = None
    method: str | None = None  # How an imported network became TorchScript.
    max_abs_difference: float | None = None  # The largest between TorchScript and eager.
    fixed: list[str] | None = None  # Lines of Python at which tracing fixed a decision.
    moved: list[str] | None = None  # Lines that fixed a device; in the file, their tensors follow the input's.
    passed_over: Mapping[str, str] | None = None  # Methods that failed, and why.
    language: Mapping[str, Any] | None = None  # A language model's source, precision, and how its two forms agree.


@dataclass(frozen=True)
class VersionFile:
    """A file of a version."""

    name: str
    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "VersionFile":
        """Describe a file."""
        return cls(path.name, path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says about a version."""

    model: str
    version: int
    evidence: Evidence
    files: tuple[VersionFile, ...]
    golden: VersionFile | None = None  # The golden requests: what it is watched with, not what is served.

    def document(self) -> dict[str, Any]:
        """Return the JSON document: `file` for a single file, `files` for several, neither for an ensemble."""
        import torch

        files = [asdict(file) for file in self.files]
        return {
            "model": self.model,
            "version": self.version,
            "recipe": str(RECIPES.relative_to(ROOT) / f"{self.model}.py"),
            **{key: value for key, value in asdict(self.evidence).items() if value is not None},
            "torch": torch.__version__,
            "triton_container": TRITON_CONTAINER,
            **({"file": files[0]} if len(files) == 1 else {"files": files} if files else {}),
            **({"golden": asdict(self.golden)} if self.golden else {}),
        }


Fill = Callable[[Path], Evidence]  # Writes a version's files into an empty folder and proves them.
Rehearse = Callable[[Path, Callable[[Path], object]], None]  # Refuses a change of a repository: tools.check.rehearsal.


def publish(
    model: str,
    fill: Fill,
    repository: Path = REPOSITORY,
    version: int | None = None,
    held: bool = False,
    private_key: Path | None = None,
    rehearse: Rehearse = lambda repository, change: None,
) -> Manifest:
    """Publish a version of a model with its manifest; the next one, unless a number is given.

    A held version is hidden from Triton until `tools.versions` promotes it. With a private key, the version is signed
    before anybody sees it.

    Raises:
        ProofError: a proof failed; the repository is unchanged.
        RepositoryError: the version exists already, the config cannot be read, or `rehearse` refuses the version.
    """
    version = version or next_version(model, repository)
    with staged_version(model, version, repository, held) as folder:
        evidence = fill(folder)
        files = {path.name: VersionFile.of(path) for path in sorted(folder.iterdir())}
        golden = files.pop(GOLDEN_FILE, None)
        manifest = Manifest(model, version, evidence, tuple(files.values()), golden)
        (folder / MANIFEST_FILE).write_text(json.dumps(manifest.document(), indent=2) + "\n")
        write_cpu_config(model, repository)
        if private_key:
            sign(model, version, private_key, repository, folder)
        if not held:
            rehearse(repository, lambda place: (place / model / str(version)).symlink_to(folder))
    return manifest
