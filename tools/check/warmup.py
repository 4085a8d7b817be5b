"""model_warmup: the requests that Triton sends to a model itself before it reports ready."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType

from tools.check.finding import Finding, Rule
from tools.check.served import Model
from tools.check.tensors import type_name

BASE = 'name: "model"\nbackend: "pytorch"\nmax_batch_size: 8\n'
BASE += 'input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] }\n'
SAMPLE = BASE + 'model_warmup { name: "one" batch_size: 1 inputs { key: "INPUT__0" value { '

OPEN_DIMS = Rule(
    "warmup-dims-open",
    "A warm-up input leaves a dimension open, or has a negative one",
    "core",
    SAMPLE + "data_type: TYPE_FP32 dims: [ -1 ] zero_data: true } } }",
)
NO_DATA = Rule(
    "warmup-data",
    "A warm-up input says nothing about its data",
    "core",
    SAMPLE + "data_type: TYPE_FP32 dims: [ 4 ] } } }",
)
NO_FILE = Rule(
    "warmup-file",
    "A warm-up input's file does not exist or is too short",
    "core",
    SAMPLE + 'data_type: TYPE_FP32 dims: [ 4 ] input_data_file: "one.raw" } } }',
)
COUNT = Rule(
    "warmup-inputs",
    "A warm-up request lacks inputs, or has more than the model",
    "core",
    BASE + 'model_warmup { name: "one" batch_size: 1 }',
)
TYPE = Rule(
    "warmup-type",
    "A warm-up input's data type is not the model's",
    "core",
    SAMPLE + "data_type: TYPE_FP16 dims: [ 4 ] zero_data: true } } }",
)
SHAPE = Rule(
    "warmup-shape",
    "A warm-up input's dims are not the model's; the batch dimension is not among them",
    "core",
    SAMPLE + "data_type: TYPE_FP32 dims: [ 1, 4 ] zero_data: true } } }",
)
STRAY = Rule(
    "warmup-stray-input",
    "A warm-up request has an input that is neither the model's nor a control tensor",
    example=BASE
    + 'model_warmup { name: "one" batch_size: 1\n'
    + '  inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }\n'
    + '  inputs { key: "INPUT__1" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }\n}',
)
NO_BATCH = Rule(
    "warmup-never-runs",
    "A warm-up request of batch size 0 is skipped",
    example=BASE
    + 'model_warmup { name: "one" '
    + 'inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }',
)
TOO_LARGE = Rule(
    "warmup-batch-size",
    "A warm-up batch is larger than max_batch_size, which no real one is",
    example=SAMPLE.replace("batch_size: 1 ", "batch_size: 16 ")
    + "data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } } }",
)
RULES = (OPEN_DIMS, NO_DATA, NO_FILE, COUNT, TYPE, SHAPE, STRAY, NO_BATCH, TOO_LARGE)

WARMUP_FOLDER = "warmup"
# Bytes of one element; texts have no fixed size, and Triton takes 4 for them here.
SIZES = {"BOOL": 1, "UINT8": 1, "INT8": 1, "UINT16": 2, "INT16": 2, "FP16": 2, "BF16": 2, "UINT32": 4, "INT32": 4}
SIZES |= {"FP32": 4, "UINT64": 8, "INT64": 8, "FP64": 8}


def byte_size(data_type: int, dims: Sequence[int]) -> int:
    """How many bytes a tensor has."""
    return SIZES.get(type_name(data_type).removeprefix("TYPE_"), 4) * prod(dims)


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with a model's warm-up; that of an ensemble is refused as a whole elsewhere."""
    if model.ensemble:
        return
    for number, sample in enumerate(model.config.model_warmup):
        path = ("model_warmup", number)
        yield from check_batch_size(model, sample, path)
        if sample.batch_size:
            yield from check_inputs(model, sample, path)
            for name, tensor in sample.inputs.items():
                yield from check_input(model, name, tensor, (*path, f"inputs[{name}]"))


def check_batch_size(model: Model, sample: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    """A warm-up that runs, with batches as they come."""
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


def check_inputs(model: Model, sample: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    """As many of the model's inputs as a request must have; others are taken for control tensors."""
    inputs = {tensor.name: tensor for tensor in model.config.input}
    # Triton counts: of two inputs with one name, a request can have one only.
    required = sum(not tensor.optional for tensor in model.config.input)
    given = [name for name in sample.inputs if name in inputs]
    missing = [name for name in inputs if name not in given and not inputs[name].optional]
    if len(given) < required:
        yield COUNT.at(
            model.place(*path),
            found=f"warm-up '{sample.name}' lacks {', '.join(missing) or 'inputs'}",
            expected=f"all of {', '.join(inputs)}",
            remedy="add an `inputs` entry for each",
        )
    controls = {tensor.name for tensor in model.config.sequence_batching.control_input}
    states = {state.input_name for state in model.config.sequence_batching.state}
    made = {name for tensor in model.config.batch_input for name in tensor.target_name}
    for name in set(sample.inputs) - set(inputs) - controls - states - made:
        yield STRAY.at(
            model.place(*path, f"inputs[{name}]"),
            found=f"input '{name}' in warm-up '{sample.name}'",
            expected=f"one of {', '.join(inputs) or 'none'}",
            remedy="correct the name, or remove it",
        )


def check_input(model: Model, name: str, tensor: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    """One input of one warm-up request."""
    place, who, dims = model.place(*path), f"warm-up input '{name}'", list(tensor.dims)
    if any(dim < 0 for dim in dims):
        yield OPEN_DIMS.at(
            place, found=f"{who} has dims {dims}", expected="sizes", remedy="give a size for each dimension"
        )
        return
    yield from check_data(model, who, tensor, path)
    for wanted in [each for each in model.config.input if each.name == name][:1]:
        if tensor.data_type != wanted.data_type:
            yield TYPE.at(
                model.place(*path, "value", 0, "data_type"),
                found=f"{who} is {type_name(tensor.data_type)}",
                expected=type_name(wanted.data_type),
                remedy="give both one data_type",
            )
        elif not same_shape(wanted.dims, dims):
            yield SHAPE.at(
                model.place(*path, "value", 0, "dims"),
                found=f"{who} has dims {dims}",
                expected=f"{list(wanted.dims)}, without the batch dimension",
                remedy="give the shape of one row; batch_size says how many",
            )


def same_shape(wanted: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether dims are such that a request may have them."""
    return len(wanted) == len(dims) and all(each in (-1, dim) for each, dim in zip(wanted, dims, strict=True))


def check_data(model: Model, who: str, tensor: Any, path: tuple[str | int, ...]) -> Iterator[Finding]:
    """Zeros, random numbers, or a file that is there and long enough."""
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
    file = model.folder / WARMUP_FOLDER / tensor.input_data_file
    wanted = byte_size(tensor.data_type, tensor.dims)
    text = tensor.data_type == DataType.TYPE_STRING
    if not file.is_file() or (file.stat().st_size < wanted and not text):
        there = f"has {file.stat().st_size} bytes" if file.is_file() else "does not exist"
        yield NO_FILE.at(
            model.place(*path, "value", 0, "input_data_file"),
            found=f"{WARMUP_FOLDER}/{tensor.input_data_file} {there}",
            expected=f"{wanted} bytes in {model.name}/{WARMUP_FOLDER}/",
            remedy="write the file, or use zero_data: true",
        )
