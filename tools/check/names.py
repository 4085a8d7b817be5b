"""Names of the model, its backend and its platform."""

import re
from collections.abc import Iterator
from difflib import get_close_matches

from tools.check.finding import Finding, Fix, Rule
from tools.check.served import AOTI, ENSEMBLE, FILES, TENSORFLOW, Model

FOLDER = Rule("name-folder", "name differs from the folder name", "core")
NO_BACKEND = Rule("backend-missing", "Neither the config nor the files say which backend runs the model", "core")
PLATFORM = Rule("platform-unknown", "Unknown platform, and no backend", "core")
PAIR = Rule("platform-backend", "platform and backend contradict each other", "core")
BACKEND_OF_ENSEMBLE = Rule("ensemble-backend", "An ensemble names a backend", "core")
UNFAMILIAR = Rule(
    "backend-unfamiliar",
    "A backend that NVIDIA does not ship and that does not come with the model",
    "server",
)
NOT_INSTALLED = Rule("backend-not-installed", "A backend that the server lacks (--backends)", "core")
RULES = (FOLDER, NO_BACKEND, PLATFORM, PAIR, BACKEND_OF_ENSEMBLE, UNFAMILIAR, NOT_INSTALLED)

# Backends whose platform Triton's core checks.
_PAIRED = {backend: (FILES[backend][1],) for backend in ("tensorrt", "onnxruntime")} | {
    "pytorch": (FILES["pytorch"][1], AOTI[1]),
    "tensorflow": tuple(TENSORFLOW.values()),
}
_PLATFORMS = sorted({ENSEMBLE, *(platform for platforms in _PAIRED.values() for platform in platforms)})
_SHIPPED = sorted({*FILES, "tensorflow", "dali", "fil", "identity", "repeat", "square", "tensorrtllm", "vllm"})


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about a model's names."""
    config = model.config
    if config.name != model.name:
        yield FOLDER.at(
            model.place("name"),
            found=f"name '{config.name}' in folder '{model.name}'",
            expected=f"'{model.name}'",
            remedy="rename one of them, or remove name",
            fix=_name_fix(model),
        )
    if config.platform == ENSEMBLE and config.backend:
        yield BACKEND_OF_ENSEMBLE.at(
            model.place("backend"), found=f"backend '{config.backend}'", expected="no backend", remedy="remove it"
        )
    elif not config.backend and config.platform != ENSEMBLE:
        yield _no_backend(model)
    elif config.backend in _PAIRED and config.platform not in _PAIRED[config.backend]:
        yield _mismatch(model)
    elif config.backend and config.backend not in _SHIPPED and not _has_library(model):
        yield _unfamiliar(model)


def _name_fix(model: Model) -> Fix | None:
    """Replace the name by the folder's, if it is written on one line as one string."""
    place = model.place("name")
    line = model.source.text.split("\n")[place.line - 1][place.column - 1 :]
    match = re.match(r"name\s*:\s*(\"[^\"\\]*\"|'[^'\\]*')", line)
    return Fix(place, match[0], f'name: "{model.name}"') if match else None


def _no_backend(model: Model) -> Finding:
    if not model.config.platform:
        return NO_BACKEND.at(
            model.place(),
            found="no backend, no platform, and no known model file in the first version",
            expected="a backend",
            remedy=f'add for example backend: "pytorch" (or {", ".join(name for name in FILES if name != "pytorch")})',
        )
    return PLATFORM.at(
        model.place("platform"),
        found=f"platform '{model.config.platform}' without a backend",
        expected=f"one of {', '.join(_PLATFORMS)}",
        remedy=_did_you_mean(model.config.platform, _PLATFORMS) or "set backend instead",
    )


def _mismatch(model: Model) -> Finding:
    config = model.config
    return PAIR.at(
        model.place("platform" if model.source.config.platform else "backend"),
        found=f"platform '{config.platform}' with backend '{config.backend}'",
        expected=f"platform {' or '.join(_PAIRED[config.backend])} for this backend",
        remedy="set that platform"
        if config.backend == "tensorflow"
        else "remove platform; it follows from the backend",
    )


def _unfamiliar(model: Model) -> Finding:
    return UNFAMILIAR.at(
        model.place("backend"),
        found=f"backend '{model.config.backend}'",
        expected=f"one of {', '.join(_SHIPPED)}, or one installed in the server's backend directory",
        remedy=_did_you_mean(model.config.backend, _SHIPPED) or "make sure that the server has it",
    )


def check_installed(model: Model, installed: frozenset[str]) -> Iterator[Finding]:
    """Yield a finding for a backend that neither is installed nor comes with the model."""
    backend = model.config.backend
    if backend and backend not in installed and not _has_library(model):
        yield NOT_INSTALLED.at(
            model.place("backend" if model.source.config.backend else "platform"),
            found=f"backend '{backend}'",
            expected=f"one of {', '.join(sorted(installed))}",
            remedy="install it in the server's backend directory, or use another backend",
        )


def _has_library(model: Model) -> bool:
    library = model.config.runtime or f"libtriton_{model.config.backend}.so"
    return any((folder / library).is_file() for folder in (model.folder, *model.folder.glob("[0-9]*")))


def _did_you_mean(word: str, known: list[str]) -> str:
    matches = get_close_matches(word.lower(), known, 1)
    return f"did you mean {matches[0]}?" if matches else ""
