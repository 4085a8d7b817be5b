"""The model repository's layout, and the only code that knows it.

Everything that lists models, reads or writes a config, or adds and removes a version goes through here.
No torch: checking and serving a repository must start in a moment.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from clients.errors import ToolError
from clients.output import write_atomically

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
CPU_CONFIG = "cpu"
MODEL_FILE = "model.pt"
MANIFEST_FILE = "manifest.json"
VERIFICATION_FILE = "verification.json"
SIGNATURE_FILE = "model.sig"
STAGING = ".staging-"
# Where a version lies that is not, or no longer, to be served: Triton passes over names that are no numbers.
HELD = ".held"
DERIVED = "# Derived from ../config.pbtxt"  # A file that begins so is the tools' to rewrite.


class RepositoryError(ToolError):
    """The repository, or a file in it, is not as it must be; the message names the file and the remedy."""


def model_names(repository: Path = REPOSITORY) -> list[str]:
    """Names of all models in the repository, sorted: the folders that hold a config.pbtxt."""
    return sorted(path.parent.name for path in repository.glob("*/config.pbtxt"))


def config_path(model: str, name: str | None = None, repository: Path = REPOSITORY) -> Path:
    """Path of a model's config.pbtxt, or of its variant `configs/<name>.pbtxt`."""
    folder = repository / model
    return folder / "configs" / f"{name}.pbtxt" if name else folder / "config.pbtxt"


def read_config(model: str, name: str | None = None, repository: Path = REPOSITORY) -> ModelConfig:
    """Parse a model's config.

    Raises:
        RepositoryError: the model is unknown, or its file is no valid ModelConfig (with line and column).
    """
    path = config_path(model, name, repository)
    if not path.is_file():
        known = ", ".join(model_names(repository)) or "none"
        raise RepositoryError(f"{path} does not exist; models in {repository}: {known}")
    try:
        config = text_format.Parse(path.read_text(), ModelConfig())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise RepositoryError(f"{path}:{error}") from error
    return config


def selected_versions(config: Any, versions: Iterable[int]) -> list[int]:
    """The versions that a config's version policy selects; without a policy the newest."""
    there = sorted(versions)
    policy = config.version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        # A version that is not there but named twice counts as there: Triton notes it as seen the first time.
        asked = list(policy.specific.versions)
        return sorted({version for version in asked if version in there or asked.count(version) > 1})
    if choice == "all" or (choice is None and config.HasField("version_policy")):
        return there
    count = policy.latest.num_versions if choice == "latest" else 1
    return there[-count:] if count else []


def as_triton_json(config: ModelConfig) -> dict[str, Any]:
    """The config as backends get it."""
    document: dict[str, Any] = MessageToDict(config, preserving_proto_field_name=True)
    return document


def parameter(config: ModelConfig, key: str, default: str | None = None) -> str:
    """A `parameters` entry of a config as text.

    Raises:
        RepositoryError: the entry is missing and no default is given.
    """
    if key in config.parameters:
        return str(config.parameters[key].string_value)
    if default is None:
        raise RepositoryError(f"{config.name}: config.pbtxt has no parameter {key}; add it to `parameters`")
    return default


def derive_cpu_config(config: ModelConfig) -> ModelConfig:
    """The same contract for a host without a GPU: one CPU instance instead of the GPU ones.

    More instances on a CPU share the same cores and each holds its own copy of the weights.
    """
    derived = ModelConfig()
    derived.CopyFrom(config)
    gpu_kinds = (ModelInstanceGroup.KIND_GPU, ModelInstanceGroup.KIND_AUTO)
    for group in derived.instance_group:
        if group.kind in gpu_kinds:
            group.kind = ModelInstanceGroup.KIND_CPU
            group.count = 1
            del group.gpus[:]
    if derived.optimization.HasField("cuda"):
        derived.optimization.ClearField("cuda")
    return derived


def cpu_config_text(model: str, repository: Path = REPOSITORY) -> str:
    """What configs/cpu.pbtxt is to say, unless somebody has made it his own."""
    body = text_format.MessageToString(derive_cpu_config(read_config(model, repository=repository)))
    return (
        f"{DERIVED} for hosts without a GPU, and overwritten: edit that file, or remove these two lines\n"
        f"# to keep this one as your own (and commit it with `git add --force`).\n{body}"
    )


def write_cpu_config(model: str, repository: Path = REPOSITORY) -> Path:
    """Bring configs/cpu.pbtxt up to date with config.pbtxt; touch it only when its content changes.

    A file that does not begin with the line that says "Derived from" is somebody's own, tuned by hand or by a tool,
    and stays as it is: whoever takes that line out answers for the contract in it.

    Raises:
        RepositoryError: the file is stale and the repository is mounted read-only.
    """
    path, text = config_path(model, CPU_CONFIG, repository), cpu_config_text(model, repository)
    if path.is_file() and (not path.read_text().startswith(DERIVED) or path.read_text() == text):
        return path
    try:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise RepositoryError(
            f"{path} is missing or older than config.pbtxt and cannot be written ({error.strerror}); "
            "run `make build` where the repository is writable"
        ) from error
    return path


def versions(model: str, repository: Path = REPOSITORY) -> list[int]:
    """Versions of a model that Triton sees, oldest first; it serves the newest of them."""
    return numbered(repository / model)


def held_versions(model: str, repository: Path = REPOSITORY) -> list[int]:
    """Versions of a model that are kept from Triton, oldest first."""
    return numbered(repository / model / HELD)


def numbered(folder: Path) -> list[int]:
    """The versions in a folder, by Triton's own rule: it passes over files, and numbers that begin with a zero."""
    paths = (path for path in folder.glob("[1-9]*") if path.is_dir())
    return sorted(int(path.name) for path in paths if path.name.isascii() and path.name.isdigit())


def version_path(model: str, version: int, repository: Path = REPOSITORY) -> Path:
    """The folder of one version, also where it is held."""
    served, held = repository / model / str(version), repository / model / HELD / str(version)
    return held if held.is_dir() and not served.is_dir() else served


def hold(model: str, version: int, repository: Path = REPOSITORY) -> None:
    """Keep a version from Triton, in one rename; a server goes on with it until it is told to load the model again."""
    (repository / model / HELD).mkdir(exist_ok=True)
    (repository / model / str(version)).rename(repository / model / HELD / str(version))


def release(model: str, version: int, repository: Path = REPOSITORY) -> None:
    """Let Triton see a held version again, in one rename."""
    (repository / model / HELD / str(version)).rename(repository / model / str(version))


def read_manifest(model: str, version: int, repository: Path = REPOSITORY) -> dict[str, Any]:
    """What one version is: recipe, data, accuracy, checksums.

    Raises:
        RepositoryError: the version has no manifest, or one that is damaged.
    """
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
    """An empty folder that becomes `<model>/<version>/` when the block ends well, and vanishes otherwise.

    A held one becomes `<model>/.held/<version>/`.

    It lies beside its place, so that publishing is one rename; Triton never sees half a version.

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
        # Somebody else may have published the same version in the meantime.
        refuse_existing(model, version, repository)
        target = folder / HELD / str(version) if held else folder / str(version)
        target.parent.mkdir(exist_ok=True)
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging)
        raise


def refuse_existing(model: str, version: int, repository: Path = REPOSITORY) -> None:
    """Raise RepositoryError when a version is there: what was published under a number never changes."""
    target = version_path(model, version, repository)
    if target.exists():
        raise RepositoryError(f"{target} exists and versions never change; choose another --version")


def refuse_unwritable(model: str, repository: Path = REPOSITORY) -> None:
    """Raise RepositoryError when nothing can be published: whoever learnt it after the training would have waited."""
    folder = repository / model
    if folder.is_dir() and not os.access(folder, os.W_OK):
        owner = folder.stat()
        raise RepositoryError(
            f"user {os.getuid()} may not write to {folder}, which belongs to user {owner.st_uid} and group "
            f"{owner.st_gid}; run as its owner (with docker compose: PUID={owner.st_uid} PGID={owner.st_gid} in the "
            "environment or in .env, which `make up` sets by itself)"
        )


def remove_version(model: str, version: int, repository: Path = REPOSITORY) -> None:
    """Take a version away in one rename, then delete it: a polling server never finds it half gone."""
    doomed = Path(tempfile.mkdtemp(dir=repository / model, prefix=STAGING))
    try:
        version_path(model, version, repository).rename(doomed / str(version))
    finally:
        shutil.rmtree(doomed)


def keep_versions(model: str, keep: int, repository: Path = REPOSITORY) -> list[int]:
    """Remove all but the newest `keep` versions; returns those removed."""
    removed = versions(model, repository)[:-keep] if keep > 0 else []
    for version in removed:
        remove_version(model, version, repository)
    return removed
