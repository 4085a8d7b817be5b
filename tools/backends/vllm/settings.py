"""How an engine is to run: vLLM's engine arguments in `<version>/model.json`, as far as this engine has their like.

What config.pbtxt adds as parameters is for this engine alone; vLLM's own container ignores it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK = 32  # Tokens of a block of KV cache; OpenVINO's on a CPU.
NETWORK = "openvino_model.xml"
_ARGUMENTS, _LORA = "model.json", "multi_lora.json"
_HINT, _CACHE, _GROUP = "INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION", "DYNAMIC_QUANTIZATION_GROUP_SIZE"
# Of OpenVINO's properties, those that a parameter may set.
_OWN = (_CACHE, _GROUP, "CPU_RUNTIME_CACHE_CAPACITY")
_CACHED_TOKENS = 32_768
_LENGTH = 2048


@dataclass(frozen=True)
class Speculation:
    """Tokens that are guessed from the prompt (no draft) or by a smaller model, and verified together."""

    tokens: int
    ngram: int = 0
    draft: Path | None = None


@dataclass(frozen=True)
class Settings:
    """What the engine is started with; `properties` are OpenVINO's own."""

    weights: Path
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    cached_tokens: int
    prefix_caching: bool
    stream_interval: int
    speculation: Speculation | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def blocks(self) -> int:
        """Blocks of KV cache in all."""
        return -(-self.cached_tokens // BLOCK)

    def needed(self, tokens: int) -> int:
        """Blocks for a sequence of so many tokens, guesses included."""
        guesses = self.speculation.tokens + 1 if self.speculation else 0
        return -(-(tokens + guesses) // BLOCK)


def read_settings(folder: Path, config: Mapping[str, Any], kind: str) -> Settings:
    """Read the settings of a version.

    Args:
        folder: the version's.
        config: config.pbtxt as JSON.
        kind: of the instance, such as MODEL or CPU.

    Raises:
        ValueError: a file is missing or says what this engine cannot do.
    """
    given = _arguments(folder)
    own = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
    if (folder / _LORA).exists():
        raise ValueError(
            f"{folder / _LORA}: this engine has no LoRA; remove the file, or serve with NVIDIA's container"
        )
    devices = _integer(given, "tensor_parallel_size", 1) * _integer(given, "pipeline_parallel_size", 1)
    if kind == "GPU" and devices > 1:
        raise ValueError(
            "KIND_GPU is currently for single-GPU models, please specify KIND_MODEL in the model's config.pbtxt "
            "for multi-GPU models"
        )
    weights = _weights(folder)
    length = _integer(given, "max_model_len", _longest(weights))
    return Settings(
        weights,
        length,
        max_num_seqs=_integer(given, "max_num_seqs", 64),
        max_num_batched_tokens=_integer(given, "max_num_batched_tokens", 512),
        cached_tokens=_integer(own, "KV_CACHE_TOKENS", max(_CACHED_TOKENS, length)),
        prefix_caching=bool(given.get("enable_prefix_caching", True)),
        stream_interval=_integer(given, "stream_interval", 1),
        speculation=_speculation(given.get("speculative_config"), folder),
        properties=_precisions(given.get("dtype", "auto")) | {name: own[name] for name in _OWN if name in own},
    )


def _precisions(dtype: str) -> dict[str, str]:
    """OpenVINO's properties for vLLM's dtype.

    Only with float32 throughout is a text the same whatever else runs in its batch: quantized activations, which the
    others have, are rounded in another way at each size of a batch.
    """
    if dtype in ("float32", "float"):
        return {_HINT: "f32", _CACHE: "f32", _GROUP: "0"}
    return {_HINT: "bf16"} if dtype == "bfloat16" else {}


def _arguments(folder: Path) -> dict[str, Any]:
    path = folder / _ARGUMENTS
    try:
        given = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"'{_ARGUMENTS}' containing vllm engine args must be provided in '{folder}'") from error
    except ValueError as error:
        raise ValueError(f"{path}: expected a JSON object of vLLM's engine arguments ({error})") from error
    if not isinstance(given, dict):
        raise ValueError(f"{path}: expected a JSON object of vLLM's engine arguments, got {json.dumps(given)[:80]}")
    return given


def _integer(given: Mapping[str, Any], name: str, default: int) -> int:
    value = given.get(name)
    try:
        number = default if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}") from error
    if number < 1:
        raise ValueError(f"{name}: expected an integer of at least 1, got {value!r}")
    return number


def _weights(folder: Path) -> Path:
    """The folder of OpenVINO's files, or a GGUF file, in a version or one folder below."""
    for pattern in (NETWORK, f"*/{NETWORK}", "*.gguf", "*/*.gguf"):
        for path in sorted(folder.glob(pattern)):
            return path.parent if path.name == NETWORK else path
    raise ValueError(f"{folder} holds no {NETWORK} and no GGUF file for the embedded engine; export the model again")


def _longest(weights: Path) -> int:
    """The longest text that the network was made for, where its config.json tells it."""
    places = weights if weights.is_dir() else weights.parent
    for path in (places / "config.json", places.parent / "config.json"):
        if path.is_file():
            return int(json.loads(path.read_text()).get("max_position_embeddings", _LENGTH))
    return _LENGTH


def _speculation(given: Any, folder: Path) -> Speculation | None:
    """What `speculative_config` asks for: the method ngram, or a draft `model` in OpenVINO's form."""
    if not given:
        return None
    tokens = _integer(given, "num_speculative_tokens", 5)
    if given.get("method", "") == "ngram":
        return Speculation(tokens, ngram=_integer(given, "prompt_lookup_max", 3))
    if "model" not in given:
        raise ValueError(f"speculative_config: expected method ngram or a draft model, got {json.dumps(given)[:80]}")
    return Speculation(tokens, draft=_weights(folder / given["model"]))
