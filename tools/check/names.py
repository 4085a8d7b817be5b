"""Names: the model's own, its backend's and its platform's."""

import re
from collections.abc import Iterator
from difflib import get_close_matches

from tools.check.finding import Finding, Fix, Rule
from tools.check.served import ENSEMBLE, FILES, TENSORFLOW, Model

FOLDER = Rule("name-folder", "name differs from the folder's name", "core", 'name: "modle"\nbackend: "pytorch"')
NO_BACKEND = Rule("backend-missing", "Nothing says which backend runs the model", "core", 'name: "model"')
PLATFORM = Rule(
    "platform-unknown", "Without a backend, platform is none that Triton knows", "core", 'platform: "pytorch"'
)
PAIR = Rule(
    "platform-backend",
    "platform and backend contradict each other",
    "core",
    'name: "model"\nbackend: "pytorch"\nplatform: "onnxruntime_onnx"',
)
BACKEND_OF_ENSEMBLE = Rule(
    "ensemble-backend",
    "An ensemble names a backend",
    "core",
    'name: "model"\nplatform: "ensemble"\nbackend: "pytorch"\nensemble_scheduling { }',
)
UNFAMILIAR = Rule(
    "backend-unfamiliar",
    "A backend that NVIDIA does not ship, and whose library is not in the model's folder",
    "server",
    'name: "model"\nbackend: "pytoch"',
)
NOT_INSTALLED = Rule("backend-not-installed", "A backend that the server does not have (--backends)", "core")
RULES = (FOLDER, NO_BACKEND, PLATFORM, PAIR, BACKEND_OF_ENSEMBLE, UNFAMILIAR, NOT_INSTALLED)

# Backends whose platform Triton's core checks.
PAIRED = {backend: (FILES[backend][1],) for backend in ("tensorrt", "onnxruntime", "pytorch")} | {
    "tensorflow": tuple(TENSORFLOW.values())
}
PLATFORMS = sorted({ENSEMBLE, *(platform for platforms in PAIRED.values() for platform in platforms)})
SHIPPED = sorted({*FILES, "tensorflow", "dali", "fil", "identity", "repeat", "square", "tensorrtllm", "vllm"})


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with a model's names."""
    config = model.config
    if config.name != model.name:
        yield FOLDER.at(
            model.place("name"),
            found=f"name '{config.name}' in the folder '{model.name}'",
            expected=f"'{model.name}'",
            remedy="rename one of them, or leave name out",
            fix=name_fix(model),
        )
    if config.platform == ENSEMBLE and config.backend:
        yield BACKEND_OF_ENSEMBLE.at(
            model.place("backend"), found=f"backend '{config.backend}'", expected="none", remedy="remove it"
        )
    elif not config.backend and config.platform != ENSEMBLE:
        yield nothing_runs(model)
    elif config.backend in PAIRED and config.platform not in PAIRED[config.backend]:
        yield mismatch(model)
    elif config.backend and config.backend not in SHIPPED and not has_library(model):
        yield unfamiliar(model)


def name_fix(model: Model) -> Fix | None:
    """The folder's name in place of the config's, where that is written in one piece."""
    place = model.place("name")
    line = model.source.text.splitlines()[place.line - 1][place.column - 1 :]
    match = re.match(r"name\s*:\s*(\"[^\"\\]*\"|'[^'\\]*')", line)
    return Fix(place, match[0], f'name: "{model.name}"') if match else None


def nothing_runs(model: Model) -> Finding:
    """No backend, neither named nor to be concluded."""
    if not model.config.platform:
        return NO_BACKEND.at(
            model.place(),
            found="neither backend nor platform, nor a file in the first version that tells",
            expected="a backend",
            remedy=f'add for example backend: "pytorch" (or {", ".join(b for b in FILES if b != "pytorch")})',
        )
    return PLATFORM.at(
        model.place("platform"),
        found=f"platform '{model.config.platform}' without a backend",
        expected=f"one of {', '.join(PLATFORMS)}",
        remedy=close(model.config.platform, PLATFORMS) or "name the backend instead",
    )


def mismatch(model: Model) -> Finding:
    """A platform that is not the backend's."""
    config = model.config
    return PAIR.at(
        model.place("platform" if model.source.config.platform else "backend"),
        found=f"platform '{config.platform}' with backend '{config.backend}'",
        expected=f"platform {' or '.join(PAIRED[config.backend])} for this backend",
        remedy="set that platform"
        if config.backend == "tensorflow"
        else "remove platform: it follows from the backend",
    )


def unfamiliar(model: Model) -> Finding:
    """A backend that is perhaps misspelt, perhaps installed by somebody."""
    return UNFAMILIAR.at(
        model.place("backend"),
        found=f"backend '{model.config.backend}'",
        expected=f"one of {', '.join(SHIPPED)}, or one installed in the server's backend directory",
        remedy=close(model.config.backend, SHIPPED) or "see that the server has it",
    )


def check_installed(model: Model, installed: frozenset[str]) -> Iterator[Finding]:
    """A backend that is installed on the server, or comes with the model."""
    backend = model.config.backend
    if backend and backend not in installed and not has_library(model):
        yield NOT_INSTALLED.at(
            model.place("backend" if model.source.config.backend else "platform"),
            found=f"backend '{backend}'",
            expected=f"one of {', '.join(sorted(installed))}",
            remedy="install it in the server's backend directory, or name another one",
        )


def has_library(model: Model) -> bool:
    """Whether the model brings its backend along."""
    library = model.config.runtime or f"libtriton_{model.config.backend}.so"
    return any((folder / library).is_file() for folder in (model.folder, *model.folder.glob("[0-9]*")))


def close(word: str, known: list[str]) -> str:
    """A question about what was meant, or nothing."""
    matches = get_close_matches(word.lower(), known, 1)
    return f"did you mean {matches[0]}?" if matches else ""
