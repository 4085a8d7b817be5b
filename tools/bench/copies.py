"""Copies of models for a measurement: the newest version under a changed config, in a repository of their own."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tools.repository import REPOSITORY, RepositoryError, config_path, read_config, version_path, versions
from tools.serve.tritonserver import Options, Server

Change = Callable[[ModelConfig], None]
_READY_S = 300


def write_copy(
    model: str, folder: Path, repository: Path = REPOSITORY, name: str | None = None, change: Change | None = None
) -> str:
    """Copy a model into a repository of copies; returns the copy's name.

    The copy has the model's first output alone: load generators ask for all outputs, real callers for those they need.

    Raises:
        RepositoryError: the model does not exist or has no version.
    """
    config = read_config(model, repository=repository)
    published = versions(model, repository)
    if not published:
        raise RepositoryError(f"{model} has no version; run `python -m tools.export {model}`")
    config.name = name or model
    del config.output[1:]
    if change:
        change(config)
    shutil.copytree(version_path(model, published[-1], repository), folder / config.name / str(published[-1]))
    for labels in (repository / model).glob("*.txt"):
        shutil.copy(labels, folder / config.name)
    config_path(config.name, repository=folder).write_text(text_format.MessageToString(config))
    return str(config.name)


def write_copies(models: Iterable[str], folder: Path, repository: Path = REPOSITORY) -> Path:
    """Copy several models under their own names; returns the folder, to be served."""
    for model in models:
        write_copy(model, folder, repository)
    return folder


@contextmanager
def serve_copies(
    models: Iterable[str], repository: Path, hardware: str, backend: str = "auto", flags: Sequence[str] = ()
) -> Iterator[Server]:
    """Serve copies of the models alone: others would take memory and caches from those that are measured."""
    with tempfile.TemporaryDirectory() as scratch:
        copies = write_copies(models, Path(scratch), repository.resolve())
        options = Options(copies, hardware=hardware, ready_timeout=_READY_S, backend=backend, flags=flags)
        with Server(options) as server:
            yield server
