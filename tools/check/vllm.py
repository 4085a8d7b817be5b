"""What NVIDIA's vllm backend, and the embedded server's in its place, refuse: config, model.json, LoRA files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelInstanceGroup

from tools.check.finding import Finding, Place, Rule
from tools.check.served import Model

ARGUMENTS_FILE = "model.json"
_LORA_FILE = "multi_lora.json"

DECOUPLED = Rule("vllm-decoupled", "A model of the vllm backend is not decoupled", "backend")
FILE = Rule(
    "model-vllm-arguments", "A version of the vllm backend lacks model.json, or it is no JSON object", "backend"
)
ARGUMENT = Rule("model-vllm-argument", "An engine argument in model.json has a value of the wrong type", "backend")
NO_MODEL = Rule("model-vllm-unnamed", "model.json names no model: vLLM would download one of its own choice")
NO_WEIGHTS = Rule("model-vllm-path", "The model in model.json is a path, and is not there as the server sees it")
PARALLEL = Rule("model-vllm-parallel", "Several GPUs (tensor × pipeline parallel) under KIND_GPU", "backend")
LORA = Rule("model-vllm-lora", "LoRA is enabled, and multi_lora.json or a path in it is missing", "backend")
RULES = (DECOUPLED, FILE, ARGUMENT, NO_MODEL, NO_WEIGHTS, PARALLEL, LORA)

_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size")
_COUNTS = (*_PARALLEL, "max_model_len", "max_num_seqs", "max_num_batched_tokens", "block_size", "max_loras")
_FLAGS = ("enforce_eager", "enable_prefix_caching", "enable_chunked_prefill", "disable_log_stats", "trust_remote_code")
_TEXTS = ("model", "tokenizer", "dtype", "quantization", "kv_cache_dtype", "load_format", "revision")


def check(model: Model) -> Iterator[Finding]:
    """Yield what the vllm backend has against a model whose config Triton's core accepts."""
    if model.config.backend != "vllm":
        return
    if not model.config.model_transaction_policy.decoupled:
        yield DECOUPLED.at(
            model.place("model_transaction_policy"),
            found="a model with one response per request",
            expected="a decoupled one: a stream has many",
            remedy="set model_transaction_policy { decoupled: true }",
        )
    for version in model.wanted:
        folder = model.folder / str(version)
        if folder.is_dir():
            yield from _check_version(model, folder)


def _check_version(model: Model, folder: Path) -> Iterator[Finding]:
    place = Place(folder / ARGUMENTS_FILE)
    arguments = _read(place.file)
    if isinstance(arguments, str):
        expected = "a JSON object with vLLM's engine arguments"
        yield FILE.at(place, found=arguments, expected=expected, remedy='write {"model": "PATH or OWNER/NAME"}')
        return
    wrong = list(_check_types(place, arguments))
    yield from wrong
    if not wrong:
        yield from _check_model(model, place, arguments)
        yield from _check_parallel(model, place, arguments)
    if str(arguments.get("enable_lora")).lower() == "true":
        yield from _check_lora(model, Place(folder / _LORA_FILE))


def _read(file: Path) -> Mapping[str, Any] | str:
    """The object in a JSON file, or what is wrong with the file."""
    try:
        document = json.loads(file.read_text())
    except OSError as error:
        return f"no {file.name}" if isinstance(error, FileNotFoundError) else f"{file.name}: {error.strerror}"
    except ValueError as error:
        return f"{file.name} is no JSON ({error})"
    return document if isinstance(document, dict) else f"{file.name} holds a {type(document).__name__}"


def _check_types(place: Place, arguments: Mapping[str, Any]) -> Iterator[Finding]:
    for name, value in arguments.items():
        if name in _COUNTS and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            expected = "a positive whole number"
        elif name in _FLAGS and not isinstance(value, bool):
            expected = "true or false"
        elif name in _TEXTS and not isinstance(value, str):
            expected = "a text"
        elif name == "gpu_memory_utilization" and not (isinstance(value, int | float) and 0 < value <= 1):
            expected = "a number above 0, at most 1"
        else:
            continue
        yield ARGUMENT.at(place, found=f"{name}: {json.dumps(value)}", expected=expected, remedy="correct it")


def _check_model(model: Model, place: Place, arguments: Mapping[str, Any]) -> Iterator[Finding]:
    if "model" not in arguments:
        yield NO_MODEL.at(place, found="no model", expected="a path or OWNER/NAME of a hub", remedy="add it")
    elif _is_lost(model, arguments["model"]):
        yield NO_WEIGHTS.at(
            place,
            found=f"{arguments['model']} is not in {model.folder.parent}",
            expected="a path from the folder in which the server is started, here that of the repository",
            remedy="correct it, or export the model again",
        )


def _is_lost(model: Model, path: str) -> bool:
    # An absolute path is one in a container, of which nothing is known here.
    return path.startswith(".") and not (model.folder.parent / path).exists()


def _check_parallel(model: Model, place: Place, arguments: Mapping[str, Any]) -> Iterator[Finding]:
    first, second = (arguments.get(name, 1) for name in _PARALLEL)
    if first * second > 1 and any(group.kind == ModelInstanceGroup.KIND_GPU for group in model.config.instance_group):
        yield PARALLEL.at(
            place,
            found=f"{first} × {second} GPUs (tensor × pipeline parallel) with KIND_GPU, which gives an instance one",
            expected="KIND_MODEL, with which the engine chooses its GPUs",
            remedy="set kind: KIND_MODEL in config.pbtxt",
        )


def _check_lora(model: Model, place: Place) -> Iterator[Finding]:
    adapters = _read(place.file)
    expected = "a JSON object of adapters' paths by their names"
    if isinstance(adapters, str):
        yield LORA.at(place, found=adapters, expected=expected, remedy="write it, or remove enable_lora")
        return
    for name, path in adapters.items():
        if not isinstance(path, str) or _is_lost(model, path):
            yield LORA.at(
                place, found=f"{name}: {json.dumps(path)} is not there", expected=expected, remedy="correct it"
            )
