"""model_warmup: the requests that Triton sends to a model before it reports it ready."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType

from clients.contract import fits
from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.check.tensors import type_name

OPEN_DIMS = Rule("warmup-dims-open", "A warm-up input has a variable or negative dimension", "core")
NO_DATA = Rule("warmup-data", "A warm-up input has no data", "core")
NO_FILE = Rule("warmup-file", "A warm-up input's file is missing or too short", "core")
COUNT = Rule("warmup-inputs", "A warm-up request lacks inputs", "core")
TYPE = Rule("warmup-type", "A warm-up input's data type differs from the model's", "core")
SHAPE = Rule("warmup-shape", "A warm-up input's dims (without the batch dimension) differ from the model's", "core")
STRAY = Rule("warmup-stray-input", "A warm-up request has an input that the model lacks")
NO_BATCH = Rule("warmup-never-runs", "A warm-up request of batch size 0 is skipped")
TOO_LARGE = Rule("warmup-batch-size", "A warm-up batch is larger than max_batch_size")
RULES = (OPEN_DIMS, NO_DATA, NO_FILE, COUNT, TYPE, SHAPE, STRAY, NO_BATCH, TOO_LARGE)

_WARMUP_FOLDER = "warmup"
# Bytes per element; strings have no fixed size, and Triton assumes 4 here.
_SIZES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2, "UINT32": 4, "INT32": 4}
_SIZES |= {"FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8}


def file_problem(folder: Path, name: str, tensor: Any) -> str:
    """Why a file of raw data cannot fill a tensor; empty if it can. Strings have no fixed size."""
    if not (folder / name).is_file():
        return f"{folder.name}/{name} does not exist"
    size = (folder / name).stat().st_size
    is_short = tensor.data_type != DataType.TYPE_STRING and size < _byte_size(tensor)
    return f"{folder.name}/{name} has {size} bytes, and the tensor {_byte_size(tensor)}" if is_short else ""


def _byte_size(tensor: Any) -> int:
    return int(_SIZES.get(type_name(tensor.data_type).removeprefix("TYPE_"), 4) * prod(tensor.dims))


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about a model's warm-up; ensembles.py forbids that of an ensemble."""
    if model.ensemble:
        return
    for number, sample in enumerate(model.config.model_warmup):
        path = ("model_warmup", number)
        yield from _check_batch_size(model, sample, path)
        if sample.batch_size:
            yield from _check_inputs(model, sample, path)
            for name, tensor in sample.inputs.items():
                yield from _check_input(model, name, tensor, (*path, f"inputs[{name}]"))


def _check_batch_size(model: Model, sample: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    largest = max(1, model.config.max_batch_size)
    if not sample.batch_size:
        yield NO_BATCH.at(
            model.place(*path), found="batch_size 0", expected=f"1 to {largest}", remedy="set batch_size, or remove it"
        )
    elif sample.batch_size > largest:
        yield TOO_LARGE.at(
            model.place(*path, "batch_size"),
            found=f"batch_size {sample.batch_size} with max_batch_size {model.config.max_batch_size}",
            expected=f"at most {largest}",
            remedy=f"set batch_size: {largest}",
        )


def _check_inputs(model: Model, sample: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    """A request needs the required inputs; Triton takes any others for control tensors."""
    inputs = {tensor.name: tensor for tensor in model.config.input}
    # Triton only counts: of two inputs of the same name, a request can have one.
    required = sum(not tensor.optional for tensor in model.config.input)
    given = [name for name in sample.inputs if name in inputs]
    missing = [name for name in inputs if name not in given and not inputs[name].optional]
    if len(given) < required:
        yield COUNT.at(
            model.place(*path),
            found=f"warm-up '{sample.name}' lacks {', '.join(missing) or 'inputs'}",
            expected=f"all of {', '.join(inputs)}",
            remedy="add an `inputs` entry for each of them",
        )
    controls = {tensor.name for tensor in model.config.sequence_batching.control_input}
    states = {state.input_name for state in model.config.sequence_batching.state}
    batch_inputs = {name for tensor in model.config.batch_input for name in tensor.target_name}
    for name in set(sample.inputs) - set(inputs) - controls - states - batch_inputs:
        yield STRAY.at(
            model.place(*path, f"inputs[{name}]"),
            found=f"input '{name}' in warm-up '{sample.name}'",
            expected=f"one of {', '.join(inputs) or 'none'}",
            remedy="correct the name, or remove it",
        )


def _check_input(model: Model, name: str, tensor: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    place, who, dims = model.place(*path), f"warm-up input '{name}'", list(tensor.dims)
    if any(dim < 0 for dim in dims):
        yield OPEN_DIMS.at(
            place, found=f"{who} has dims {dims}", expected="fixed sizes", remedy="set a size for each dimension"
        )
        return
    yield from _check_data(model, who, tensor, path)
    for declared in [candidate for candidate in model.config.input if candidate.name == name][:1]:
        if tensor.data_type != declared.data_type:
            yield TYPE.at(
                model.place(*path, "value", "data_type"),
                found=f"{who} is {type_name(tensor.data_type)}",
                expected=type_name(declared.data_type),
                remedy="use the same data_type for both",
            )
        elif not fits(declared.dims, dims):
            yield SHAPE.at(
                model.place(*path, "value", "dims"),
                found=f"{who} has dims {dims}",
                expected=f"{list(declared.dims)}, without the batch dimension",
                remedy="set the shape of one row; batch_size is the number of rows",
            )


def _check_data(model: Model, who: str, tensor: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    source = tensor.WhichOneof("input_data_type")
    if source is None:
        yield NO_DATA.at(
            model.place(*path),
            found=f"{who} has no data",
            expected="zero_data: true, random_data: true or input_data_file",
            remedy="add zero_data: true",
        )
    if source != "input_data_file":
        return
    if problem := file_problem(model.folder / _WARMUP_FOLDER, tensor.input_data_file, tensor):
        yield NO_FILE.at(
            model.place(*path, "value", "input_data_file"),
            found=problem,
            expected=f"a file of {_byte_size(tensor)} bytes in {model.name}/{_WARMUP_FOLDER}/",
            remedy="create the file, or use zero_data: true",
        )
