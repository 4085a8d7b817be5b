"""The parameters of the pytorch backend in config.pbtxt: booleans, thread counts, and what they set in the process."""

from __future__ import annotations

from typing import Any

FLAGS = (
    "DISABLE_OPTIMIZED_EXECUTION",
    "INFERENCE_MODE",
    "DISABLE_CUDNN",
    "ENABLE_CACHE_CLEANING",
    "ENABLE_WEIGHT_SHARING",
    "ENABLE_TENSOR_FUSER",
    "ENABLE_JIT_PROFILING",
    "ENABLE_JIT_EXECUTOR",
)
COUNTS = ("INTRA_OP_THREAD_COUNT", "INTER_OP_THREAD_COUNT")
TRUE, FALSE = ("true", "on", "1"), ("false", "off", "0")


class ParameterError(ValueError):
    """A parameter is malformed; Triton refuses to load the model."""


def apply_to_process(config: dict[str, Any]) -> None:
    """Apply the parameters that hold for the whole process: thread counts and settings of cuDNN and the JIT.

    Raises:
        ParameterError: a value is malformed.
    """
    import torch

    if threads := count(config, "INTRA_OP_THREAD_COUNT"):
        torch.set_num_threads(threads)
    if threads := count(config, "INTER_OP_THREAD_COUNT"):
        torch.set_num_interop_threads(threads)
    if flag(config, "DISABLE_OPTIMIZED_EXECUTION", False):
        torch._C._set_graph_executor_optimize(False)
    if flag(config, "DISABLE_CUDNN", False):
        torch.backends.cudnn.enabled = False
    switches = {
        "ENABLE_JIT_PROFILING": torch._C._jit_set_profiling_mode,
        "ENABLE_JIT_EXECUTOR": torch._C._jit_set_profiling_executor,
        "ENABLE_TENSOR_FUSER": torch._C._jit_set_texpr_fuser_enabled,
    }
    for key, switch in switches.items():
        if key in config.get("parameters", {}):
            switch(flag(config, key, True))


def flag(config: dict[str, Any], key: str, default: bool) -> bool:
    """Read a boolean parameter; raise ParameterError if it is malformed."""
    text = _text(config, key)
    if text is None:
        return default
    if text.lower() not in TRUE + FALSE:
        raise ParameterError(f"parameter {key} is '{text}'; expected one of {', '.join(TRUE + FALSE)}")
    return text.lower() in TRUE


def count(config: dict[str, Any], key: str) -> int | None:
    """Read a parameter that is a positive integer; raise ParameterError if it is malformed."""
    text = _text(config, key)
    if text is None:
        return None
    if not text.isdigit() or int(text) < 1:
        raise ParameterError(f"parameter {key} is '{text}'; expected a whole number of at least 1")
    return int(text)


def _text(config: dict[str, Any], key: str) -> str | None:
    entry = config.get("parameters", {}).get(key)
    return None if entry is None else str(entry["string_value"])
