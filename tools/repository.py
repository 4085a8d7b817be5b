"""The layout of the model repository, and the only code that knows it.

Whatever lists models, reads a config, or adds and removes a version goes through this module. It does not import
torch, so that commands which only check or serve a repository start fast, and protobuf only where it reads a config.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clients import installation
from clients.errors import ToolError

if TYPE_CHECKING:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

ROOT = installation.ROOT
REPOSITORY = ROOT / "model_repository"
RECIPES = ROOT / ("recipes" if installation.PACKAGE else "tools/recipes")
CPU_CONFIG = "cpu"
MODEL_FILE = "model.pt"
MANIFEST_FILE = "manifest.json"
VERIFICATION_FILE = "verification.json"
SIGNATURE_FILE = "model.sig"
GOLDEN_FILE = "golden.npz"
STAGING = ".staging-"
# Versions that are not to be served lie here: Triton ignores folders whose names are not numbers.
HELD = ".held"


class RepositoryError(ToolError):
    """The repository or a file in it is invalid; the message names the file and the remedy."""


def model_names(repository: Path = REPOSITORY) -> list[str]:
    """List the models of a repository, sorted: the folders that hold a config.pbtxt."""
    return sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))


def config_path(model: str, name: str | None = None, repository: Path = REPOSITORY) -> Path:
    """Return the path of a model's config.pbtxt, or of its variant `configs/<name>.pbtxt`."""
    folder = repository / model
    return folder / "configs" / f"{name}.pbtxt" if name else folder / "config.pbtxt"


def read_config(model: str, name: str | None = None, repository: Path = REPOSITORY) -> "ModelConfig":
    """Parse a model's config, with its folder's name where it gives none, as Triton does.

    Raises:
        RepositoryError: there is none, or it is not a ModelConfig (with line and column).
    """
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    path = config_path(model, name, repository)
    if not path.is_file():
        known = ", ".join(model_names(repository)) or "none"
        raise RepositoryError(f"{path} does not exist; models in {repository}: {known}")
    try:
        # Triton takes bytes that are not UTF-8, for example in comments.
        config = text_format.Parse(path.read_text("utf-8", "replace"), ModelConfig())
    except text_format.ParseError as error:
        raise RepositoryError(f"{path}:{error}") from error
    config.name = config.name or model
    return config


def selected_versions(config: Any, versions: Iterable[int]) -> list[int]:
    """Select the versions that a config's version policy asks for; without a policy, the newest."""
    present = sorted(versions)
    policy = config.version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        # A missing version that is named twice counts as present: Triton marks it as seen the first time.
        asked = list(policy.specific.versions)
        return sorted({version for version in asked if version in present or asked.count(version) > 1})
    if choice == "all" or (choice is None and config.HasField("version_policy")):
        return present
    count = policy.latest.num_versions if choice == "latest" else 1
    return present[-count:] if count else []


def as_triton_json(config: "ModelConfig") -> dict[str, Any]:
    """Return a config in the form that Triton passes to backends."""
    from google.protobuf.json_format import MessageToDict

    document: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    return document


def versions(model: str, repository: Path = REPOSITORY) -> list[int]:
    """List the versions of a model that Triton sees, oldest first; it serves the newest."""
    return _numbered(repository / model)


def held_versions(model: str, repository: Path = REPOSITORY) -> list[int]:
    """List the versions of a model that are hidden from Triton, oldest first."""
    return _numbered(repository / model / HELD)


def next_version(model: str, repository: Path = REPOSITORY) -> int:
    """The number of a model's next version, above all that are served or held."""
    return max(versions(model, repository) + held_versions(model, repository), default=0) + 1


def _numbered(folder: Path) -> list[int]:
    # Triton ignores files, and numbers with a leading zero.
    paths = (path for path in folder.glob("[1-9]*") if path.is_dir())
    return sorted(int(path.name) for path in paths if path.name.isascii() and path.name.isdigit())


def version_path(model: str, version: int, repository: Path = REPOSITORY) -> Path:
    """Return the folder of a version, served or held."""
    served, held = repository / model / str(version), repository / model / HELD / str(version)
    return held if held.is_dir() and not served.is_dir() else served


def hold(model: str, version: int, repository: Path = REPOSITORY) -> None:
    """Hide a version from Triton in one rename; a server that has it loaded keeps it until the next load request."""
    (repository / model / HELD).mkdir(exist_ok=True)
    (repository / model / str(version)).rename(repository / model / HELD / str(version))


def release(model: str, version: int, repository: Path = REPOSITORY) -> None:
    """Make a held version visible to Triton again, in one rename."""
    (repository / model / HELD / str(version)).rename(repository / model / str(version))


def read_manifest(model: str, version: int, repository: Path = REPOSITORY) -> dict[str, Any]:
    """Read the manifest of a version: recipe, data, accuracy, checksums; RepositoryError if missing or damaged."""
    path = version_path(model, version, repository) / MANIFEST_FILE
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RepositoryError(f"{path} does not exist; run `python -m tools.export {model}`") from error
    except ValueError as error:
        raise RepositoryError(f"{path} is damaged ({error}); export the model again") from error
    return manifest


@contextmanager
def staged_version(model: str, version: int, repository: Path = REPOSITORY, held: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `<model>/<version>/` if the block succeeds and is deleted otherwise.

    Publishing is one rename, so Triton never sees half a version. A held version becomes `<model>/.held/<version>/`.

    Raises:
        RepositoryError: the version exists already, or the model has no folder.
    """
    folder = repository / model
    refuse_existing(model, version, repository)
    if not folder.is_dir():
        raise RepositoryError(f"{folder} does not exist; a model needs a folder with a config.pbtxt")
    staging = Path(tempfile.mkdtemp(dir=folder, prefix=STAGING))
    try:
        yield staging
        staging.chmod(0o755)
        # Another process may have published the same version in the meantime.
        refuse_existing(model, version, repository)
        target = folder / HELD / str(version) if held else folder / str(version)
        target.parent.mkdir(exist_ok=True)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging)
        raise


def refuse_existing(model: str, version: int, repository: Path = REPOSITORY) -> None:
    """Raise RepositoryError if a version exists: a published version never changes."""
    target = version_path(model, version, repository)
    if target.exists():
        raise RepositoryError(f"{target} exists and versions never change; choose another --version")


def refuse_unwritable(model: str, repository: Path = REPOSITORY) -> None:
    """Raise RepositoryError if this user cannot publish versions of a model; called before a long training."""
    folder = repository / model
    if folder.is_dir() and not os.access(folder, os.W_OK):
        owner = folder.stat()
        raise RepositoryError(
            f"user {os.getuid()} cannot write to {folder}, which belongs to user {owner.st_uid} and group "
            f"{owner.st_gid}; run as its owner (docker compose: set PUID={owner.st_uid} PGID={owner.st_gid} in the "
            "environment or in .env; `make up` sets them for you)"
        )


def remove_version(model: str, version: int, repository: Path = REPOSITORY) -> None:
    """Delete a version: one rename hides it first, so that a polling server never sees it half deleted."""
    doomed = Path(tempfile.mkdtemp(dir=repository / model, prefix=STAGING))
    try:
        version_path(model, version, repository).rename(doomed / str(version))
    finally:
        shutil.rmtree(doomed)


def keep_versions(model: str, keep: int, repository: Path = REPOSITORY) -> list[int]:
    """Remove all but the newest `keep` versions; return the removed ones."""
    removed = versions(model, repository)[:-keep] if keep > 0 else []
    for version in removed:
        remove_version(model, version, repository)
    return removed
