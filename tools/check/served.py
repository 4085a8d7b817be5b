"""The models of a repository as a server sees them that is started with a given `--model-config-name`, or without.

Triton fills in some fields before it looks at a config, even with auto-complete turned off: name, platform, backend and
file name, from each other and from the files in the first version. `complete` does the same, because rules hold for
what it makes of a config.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

from tools.check.finding import Finding, Place, Rule
from tools.check.source import Source, read
from tools.repository import selected_versions

ENSEMBLE = "ensemble"
# backend → what it calls the file in a version, and its platform; Triton fills in one from the other.
FILES = {
    "tensorrt": ("model.plan", "tensorrt_plan"),
    "onnxruntime": ("model.onnx", "onnxruntime_onnx"),
    "openvino": ("model.xml", ""),
    "pytorch": ("model.pt", "pytorch_libtorch"),
    "python": ("model.py", ""),
}
TENSORFLOW = {"model.savedmodel": "tensorflow_savedmodel", "model.graphdef": "tensorflow_graphdef"}
# Folders beside the versions that mean something else.
RESERVED = ("configs", "warmup", "initial_state")
# std::stoll, by which Triton reads the names of version folders, throws beyond this.
LARGEST = 2**63 - 1

UNREADABLE = Rule("config-unreadable", "A config cannot be read, or is no UTF-8 text", "core")
MISSING = Rule("config-missing", "A folder in the repository has no config.pbtxt", "core")
RULES = (MISSING, UNREADABLE)


@dataclass(frozen=True)
class Model:
    """One model: its folder, its config with the places of its fields, and its versions.

    Attributes:
        config: the config as Triton completes it.
        folders: names of the folders in its folder.
        versions: the numbers that Triton takes for versions, oldest first.
        wanted: those of them that the version policy loads.
    """

    name: str
    folder: Path
    source: Source
    config: Any
    folders: tuple[str, ...]
    versions: tuple[int, ...]
    wanted: tuple[int, ...]

    def place(self, *path: str | int) -> Place:
        """Where a field of the config stands."""
        return self.source.place(*path)

    @property
    def ensemble(self) -> bool:
        """Whether it is made of other models and has no file of its own."""
        return bool(self.config.platform == ENSEMBLE or self.config.HasField("ensemble_scheduling"))


@dataclass(frozen=True)
class Served:
    """A repository under one config name: the models that could be read, and findings about those that could not."""

    path: Path
    models: dict[str, Model]
    findings: tuple[Finding, ...]


def config_names(repository: Path) -> list[str]:
    """The names of all variants that some model has: one for each `configs/<name>.pbtxt`."""
    return sorted({path.stem for path in repository.glob("*/configs/*.pbtxt")})


def load(repository: Path, config_name: str = "") -> Served:
    """Read all models of a repository, each from `configs/<config_name>.pbtxt` where it has one."""
    models, findings = {}, []
    for folder in sorted(path for path in repository.iterdir() if path.is_dir()):
        variant = folder / "configs" / f"{config_name}.pbtxt"
        file = variant if config_name and variant.is_file() else folder / "config.pbtxt"
        found = read_file(file)
        if isinstance(found, Source) and not found.findings:
            models[folder.name] = model_of(folder, found)
        else:
            wrong = found.findings if isinstance(found, Source) else (found,)
            findings += [replace(each, model=folder.name) for each in wrong]
    return Served(repository, models, tuple(findings))


def read_file(file: Path) -> Source | Finding:
    """A config file, or why there is none."""
    try:
        return read(file, file.read_text())
    except FileNotFoundError:
        remedy = "write one, or move the folder out of the repository"
        return MISSING.at(Place(file), found=f"{file.parent.name} has no config.pbtxt", expected="one", remedy=remedy)
    except (OSError, UnicodeDecodeError) as error:
        remedy = "correct the file or its permissions"
        return UNREADABLE.at(Place(file), found=str(error), expected="UTF-8 text", remedy=remedy)


def model_of(folder: Path, source: Source) -> Model:
    """A model from its folder and its config."""
    folders = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    versions = sorted({number for name in folders if (number := version_number(name)) is not None})
    config = ModelConfig()
    config.CopyFrom(source.config)
    complete(config, folder, folders)
    return Model(
        folder.name, folder, source, config, folders, tuple(versions), tuple(selected_versions(config, versions))
    )


def version_number(name: str) -> int | None:
    """The number that Triton reads in a folder's name, or None for a folder that it passes over.

    It takes what std::stoll takes: an optional sign and the digits at the beginning; whatever follows is ignored.
    """
    if name in RESERVED or (len(name) > 1 and name[0] == "0"):
        return None
    stripped = name.lstrip()
    sign, rest = (stripped[0], stripped[1:]) if stripped[:1] in ("-", "+") else ("", stripped)
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    if not digits or int(digits) > LARGEST:
        return None
    return -int(digits) if sign == "-" else int(digits)


def complete(config: Any, folder: Path, folders: tuple[str, ...]) -> None:
    """Fill in name, platform, backend and file name as Triton does before it looks at a config."""
    config.name = config.name or folder.name
    first = folder / folders[0] if folders else None
    complete_tensorflow(config, first)
    if config.platform in TENSORFLOW.values():
        config.backend = config.backend or "tensorflow"
        return
    for backend, (file, platform) in FILES.items():
        if not config.backend and names(config, file, platform, first):
            config.backend = backend
        if config.backend == backend:
            config.platform = config.platform or platform
            config.default_model_filename = config.default_model_filename or file
            return
    if not (config.backend or config.platform or config.default_model_filename) and "." in folder.name:
        config.backend = folder.name.partition(".")[2]
        config.default_model_filename = f"model.{config.backend}"


def names(config: Any, file: str, platform: str, first: Path | None) -> bool:
    """Whether platform, file name or, without both, a file in the first version say which backend is meant."""
    if (platform and config.platform == platform) or config.default_model_filename == file:
        return True
    bare = not config.platform and not config.default_model_filename
    return bool(bare and first is not None and holds(first / file, backend_file=file))


def holds(path: Path, backend_file: str) -> bool:
    """Whether a version holds a model's file; plans and TorchScript are no folders, others may be."""
    return path.is_file() if backend_file in ("model.plan", "model.pt") else path.exists()


def complete_tensorflow(config: Any, first: Path | None) -> None:
    """The platform of a TensorFlow model from its file."""
    if config.platform or config.backend not in ("", "tensorflow"):
        return
    named = config.default_model_filename
    if named in TENSORFLOW:
        config.platform = TENSORFLOW[named]
    elif not named and first is not None:
        if (first / "model.savedmodel").is_dir():
            config.platform = TENSORFLOW["model.savedmodel"]
        if (first / "model.graphdef").is_file():
            config.platform = TENSORFLOW["model.graphdef"]
