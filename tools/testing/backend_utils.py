"""The module `triton_python_backend_utils` for one model, importable while that model lives.

Its functions are the backend's own file from the `nvidia-pytriton` wheel; what tritonserver's process would add to it
is ours.
"""

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from tools.serve.wheel import wheel_path
from tools.testing.messages import (
    InferenceRequest,
    InferenceResponse,
    PreferredMemory,
    TritonError,
)
from tools.testing.metrics import MetricFamily
from tools.testing.tensors import Tensor, TritonModelException

NAME = "triton_python_backend_utils"


class Logger:
    """A model's log; pytest shows it for a test that fails."""

    LogLevel = Enum("LogLevel", {"INFO": 20, "WARNING": 30, "ERROR": 40, "VERBOSE": 10})
    INFO, WARNING, ERROR, VERBOSE = LogLevel

    @staticmethod
    def log(message: str, level: Any = LogLevel.INFO) -> None:
        logging.getLogger("triton").log(level.value, message)


for _short, _level in {"info": "INFO", "warn": "WARNING", "error": "ERROR", "verbose": "VERBOSE"}.items():
    setattr(
        Logger, f"log_{_short}", staticmethod(lambda message, level=Logger.LogLevel[_level]: Logger.log(message, level))
    )


class Models:
    """Which other models are ready, as far as a model can tell and change."""

    def __init__(self, names: set[str]):
        self._known, self.ready = names, set(names)

    def load_model(self, model_name: str, config: str = "", files: dict[str, bytes] | None = None) -> None:
        """Make one ready."""
        if model_name not in self._known:
            raise TritonModelException(f"Failed to load model: failed to load '{model_name}', no such model")
        self.ready.add(model_name)

    def unload_model(self, model_name: str, unload_dependents: bool = False) -> None:
        """Make one unready."""
        self.ready.discard(model_name)

    def is_model_ready(self, model_name: str, model_version: str = "") -> bool:
        """Whether one is ready."""
        return model_name in self.ready


def utils_for(folder: Path, models: Models, ask: Callable[[InferenceRequest, bool], list[InferenceResponse]]) -> Any:
    """Make the module for a model in this folder; `ask` answers its requests to other models."""
    spec = importlib.util.spec_from_file_location(
        NAME, wheel_path("pytriton") / "tritonserver" / "backends" / "python" / f"{NAME}.py"
    )
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for kind in (InferenceResponse, Logger, MetricFamily, PreferredMemory, Tensor, TritonError, TritonModelException):
        setattr(module, kind.__name__, kind)
    module.InferenceRequest = type("InferenceRequest", (InferenceRequest,), {"ask": staticmethod(ask)})
    module.TRITONSERVER_MEMORY_GPU, module.TRITONSERVER_MEMORY_CPU = 0, 1
    module.load_model, module.unload_model = models.load_model, models.unload_model
    module.is_model_ready = models.is_model_ready
    module.get_model_dir = lambda: str(folder)
    return module


@contextmanager
def importable(module: ModuleType, paths: list[str], folder: Path) -> Iterator[None]:
    """Let a model import the module, and files on `paths`; afterwards, nothing is left of it and of its `folder`."""
    before, wrote_bytecode = sys.modules.get(NAME), sys.dont_write_bytecode
    there = set(sys.modules)
    sys.modules[NAME] = module
    sys.path.extend(paths)
    # A model's folder is as its owner left it.
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = wrote_bytecode
        for path in paths:
            sys.path.remove(path)
        for name in sys.modules.keys() - there:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
        sys.modules.pop(NAME, None)
        if before is not None:
            sys.modules[NAME] = before
