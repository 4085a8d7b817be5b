"""The models of a repository as a server with a given `--model-config-name`, or without one, sees them.

Triton completes a config before it validates it, even with auto-complete disabled: it derives name, platform, backend
and file name from each other and from the files of the first version. `_complete` does the same, because the rules
apply to the completed config.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tools.check.completion import Completion, complete
from tools.check.finding import Finding, Place, Rule
from tools.check.reader import Node
from tools.check.source import Source, read
from tools.cpu_config import derive_cpu_config, is_derived
from tools.repository import selected_versions

ENSEMBLE = "ensemble"
# backend → its default file name and its platform; Triton derives one from the other.
FILES = {
    "tensorrt": ("model.plan", "tensorrt_plan"),
    "onnxruntime": ("model.onnx", "onnxruntime_onnx"),
    "openvino": ("model.xml", ""),
    "pytorch": ("model.pt", "pytorch_libtorch"),
    "python": ("model.py", ""),
}
# The file and the platform of models compiled by AOTInductor, which the pytorch backend runs too.
AOTI = ("model.pt2", "torch_aoti")
TENSORFLOW = {"model.savedmodel": "tensorflow_savedmodel", "model.graphdef": "tensorflow_graphdef"}
# Folders beside the versions with another meaning.
_RESERVED = ("configs", "warmup", "initial_state")
# Triton parses the names of version folders with std::stoll, which throws beyond this.
LARGEST = 2**63 - 1

UNREADABLE = Rule("config-unreadable", "A config is unreadable", "core")
MISSING = Rule("config-missing", "A folder in the repository has no config.pbtxt", "core")
RULES = (MISSING, UNREADABLE)


@dataclass(frozen=True)
class Model:
    """One model: its folder, its config with field positions, and its versions.

    Attributes:
        config: the config as Triton completes it.
        folders: the names of its subfolders.
        versions: the version numbers that Triton sees, oldest first.
        wanted: the versions that the version policy loads.
        completion: what the backend adds to the config; None for nothing.
    """

    name: str
    folder: Path
    source: Source
    config: Any
    folders: tuple[str, ...]
    versions: tuple[int, ...]
    wanted: tuple[int, ...]
    completion: Completion | None = None

    def place(self, *path: str | int) -> Place:
        """The position of a field of the config."""
        return self.source.place(*path)

    @property
    def ensemble(self) -> bool:
        """Whether it consists of other models and has no file of its own."""
        return bool(self.config.platform == ENSEMBLE or self.config.HasField("ensemble_scheduling"))


@dataclass(frozen=True)
class Served:
    """A repository under one config name: the readable models, and findings about the others."""

    path: Path
    models: dict[str, Model]
    findings: tuple[Finding, ...]


def config_names(repository: Path) -> list[str]:
    """The names of all config variants, one for each `configs/<name>.pbtxt` of any model."""
    return sorted({path.stem for path in repository.glob("*/configs/*.pbtxt")})


def load(repository: Path, config_name: str = "", auto_complete: bool = True) -> Served:
    """Read all models of a repository, each from `configs/<config_name>.pbtxt` where it has one.

    With `auto_complete`, a config that is incomplete or missing gets what its backend would add.
    """
    models, findings = {}, []
    for folder in sorted(path for path in repository.iterdir() if path.is_dir()):
        model = _read_model(folder, config_name, auto_complete)
        if isinstance(model, Model):
            models[folder.name] = model
        else:
            findings += [replace(finding, model=folder.name) for finding in model]
    return Served(repository, models, tuple(findings))


def _read_model(folder: Path, config_name: str, auto_complete: bool) -> Model | tuple[Finding, ...]:
    source = _read_variant(folder, config_name)
    if isinstance(source, Source):
        return source.findings or _model(folder, source, auto_complete)
    if source.rule != MISSING.id or not auto_complete:
        return (source,)
    model = _model(folder, Source(folder / "config.pbtxt", "", ModelConfig(), Node(), ()), auto_complete)
    if model.completion:
        return model
    backend = model.config.backend
    reason = f"one, because the {backend} backend adds nothing to it" if backend else source.expected
    return (replace(source, expected=reason),)


def _read_variant(folder: Path, config_name: str) -> Source | Finding:
    """Read a model's config; one that tools derive is derived anew, as before it is served, and keeps its positions."""
    variant = folder / "configs" / f"{config_name}.pbtxt"
    is_variant = bool(config_name) and variant.is_file()
    if is_variant and not is_derived(variant):
        return _read_file(variant)
    source = _read_file(folder / "config.pbtxt")
    if is_variant and isinstance(source, Source):
        return replace(source, config=derive_cpu_config(source.config))
    return source


def _read_file(file: Path) -> Source | Finding:
    try:
        return read(file, file.read_bytes().decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        remedy = "create one, or move the folder out of the repository"
        return MISSING.at(
            Place(file), found=f"{file.parent.name} has no config.pbtxt", expected="one per model", remedy=remedy
        )
    except OSError as error:
        remedy = "fix the file or its permissions"
        return UNREADABLE.at(Place(file), found=str(error), expected="a readable file", remedy=remedy)


def _model(folder: Path, source: Source, auto_complete: bool) -> Model:
    folders = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    versions = sorted({number for name in folders if (number := version_number(name)) is not None})
    config = ModelConfig()
    config.CopyFrom(source.config)
    _complete(config, folder, folders)
    wanted = tuple(selected_versions(config, versions))
    file = folder / (str(wanted[-1]) if wanted else "") / config.default_model_filename
    completion = complete(config, file) if auto_complete else None
    return Model(folder.name, folder, source, config, folders, tuple(versions), wanted, completion)


def version_number(name: str) -> int | None:
    """The version number that Triton parses from a folder's name, or None for a folder that it ignores.

    Like std::stoll, it takes an optional sign and leading digits and ignores the rest.
    """
    if name in _RESERVED or (len(name) > 1 and name[0] == "0"):
        return None
    stripped = name.lstrip()
    sign, rest = (stripped[0], stripped[1:]) if stripped[:1] in ("-", "+") else ("", stripped)
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not digits or int(digits) > LARGEST:
        return None
    return -int(digits) if sign == "-" else int(digits)


def _complete(config: Any, folder: Path, folders: tuple[str, ...]) -> None:
    config.name = config.name or folder.name
    first = folder / folders[0] if folders else None
    _complete_tensorflow(config, first)
    if config.platform in TENSORFLOW.values():
        config.backend = config.backend or "tensorflow"
        return
    _complete_aoti(config, first)
    for backend, (file, platform) in FILES.items():
        if not config.backend and _implies_backend(config, file, platform, first):
            config.backend = backend
        if config.backend == backend:
            config.platform = config.platform or platform
            config.default_model_filename = config.default_model_filename or file
            return
    if not (config.backend or config.platform or config.default_model_filename) and "." in folder.name:
        config.backend = folder.name.partition(".")[2]
        config.default_model_filename = f"model.{config.backend}"


def _complete_aoti(config: Any, first: Path | None) -> None:
    """Platform and file of an AOTInductor model; beside a TorchScript file only a platform chooses it."""
    is_bare = not (config.backend or config.platform or config.default_model_filename)
    if is_bare and first is not None and _is_model_file(first / AOTI[0]) and not (first / "model.pt").is_file():
        config.platform = AOTI[1]
    if config.platform == AOTI[1] and config.backend in ("", "pytorch"):
        config.backend = "pytorch"
        config.default_model_filename = config.default_model_filename or AOTI[0]
    elif config.default_model_filename == AOTI[0] and not config.platform:
        config.backend = config.backend or "pytorch"


def _implies_backend(config: Any, file: str, platform: str, first: Path | None) -> bool:
    """Whether platform, file name or, without both, a file in the first version imply the backend."""
    if (platform and config.platform == platform) or config.default_model_filename == file:
        return True
    is_bare = not config.platform and not config.default_model_filename
    return bool(is_bare and first is not None and _is_model_file(first / file))


def _is_model_file(path: Path) -> bool:
    """Plans and TorchScript must be files; others may be folders."""
    return path.is_file() if path.name in ("model.plan", "model.pt", AOTI[0]) else path.exists()


def _complete_tensorflow(config: Any, first: Path | None) -> None:
    if config.platform or config.backend not in ("", "tensorflow"):
        return
    filename = config.default_model_filename
    if filename in TENSORFLOW:
        config.platform = TENSORFLOW[filename]
    elif not filename and first is not None:
        if (first / "model.savedmodel").is_dir():
            config.platform = TENSORFLOW["model.savedmodel"]
        if (first / "model.graphdef").is_file():
            config.platform = TENSORFLOW["model.graphdef"]
