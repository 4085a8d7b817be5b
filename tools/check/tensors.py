"""Inputs and outputs, also those that the batcher makes: names, data types, dims, reshapes and formats."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from tritonclient.grpc.model_config_pb2 import BatchInput, DataType, ModelInput

from tools.check.finding import Finding, Rule
from tools.check.served import Model

_PLAN = "tensorrt_plan"

NO_NAME = Rule("tensor-name", "A tensor has no name", "core")
NO_TYPE = Rule("tensor-type", "A tensor has no data type", "core")
NO_DIMS = Rule("tensor-dims", "A tensor has no dims", "core")
BAD_DIM = Rule("dim-range", "A dimension is neither positive nor -1", "core")
TWICE = Rule("tensor-twice", "Two inputs or two outputs have the same name")
EMPTY_RESHAPE = Rule("reshape-empty", "An empty reshape (a scalar) in a model without a batch dimension", "core")
RESHAPE_DIM = Rule("reshape-range", "A dimension of a reshape is neither positive nor -1", "core")
RESHAPE_SIZE = Rule("reshape-size", "dims and reshape have different numbers of elements", "core")
RESHAPE_OPEN = Rule("reshape-variable", "The variable dimensions (-1) of dims and reshape do not correspond", "core")
FORMAT = Rule("format-dims", "FORMAT_NHWC or FORMAT_NCHW on an input without exactly three dims", "core")
SHAPE_TENSOR = Rule("shape-tensor", "is_shape_tensor outside TensorRT", "core")
NON_LINEAR = Rule("non-linear-format", "is_non_linear_format_io outside TensorRT, or without three dims", "core")
BATCH_KIND = Rule(
    "batch-tensor-source",
    "A batch input or output has an unknown kind, or not exactly one source input",
    "core",
)
BATCH_TYPE = Rule("batch-input-type", "A batch input is neither TYPE_INT32 nor TYPE_FP32", "core")
BATCH_NAME = Rule("batch-tensor-name", "A batch input or output names an unknown tensor, or the same one twice", "core")
RULES = (
    *(NO_NAME, NO_TYPE, NO_DIMS, BAD_DIM, TWICE, EMPTY_RESHAPE, RESHAPE_DIM, RESHAPE_SIZE, RESHAPE_OPEN),
    *(FORMAT, SHAPE_TENSOR, NON_LINEAR, BATCH_KIND, BATCH_TYPE, BATCH_NAME),
)
_TYPES = "a TYPE_… such as TYPE_FP32"


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about a model's tensors."""
    for role in ("input", "output"):
        tensors = getattr(model.config, role)
        for number, tensor in enumerate(tensors):
            yield from _check_tensor(model, role, number, tensor)
            yield from _check_platform(model, role, number, tensor)
            if tensor.name and tensor.name in [other.name for other in tensors[:number]]:
                yield TWICE.at(
                    model.place(role, number, "name"),
                    found=f"another {role} '{tensor.name}'",
                    expected="unique names",
                    remedy="rename one of them; Triton uses the first and the backend gets both",
                )
    yield from _check_batch_inputs(model)
    yield from _check_batch_outputs(model)


def _title(role: str, number: int, tensor: Any) -> str:
    return f"{role} '{tensor.name}'" if tensor.name else f"{role} number {number + 1}"


def _check_tensor(model: Model, role: str, number: int, tensor: Any) -> Iterator[Finding]:
    place, who = model.place(role, number), _title(role, number, tensor)
    if not tensor.name:
        yield NO_NAME.at(place, found=f"{who} without a name", expected="a name", remedy='add name: "…"')
    if tensor.data_type == DataType.TYPE_INVALID:
        yield NO_TYPE.at(place, found=f"{who} without data_type", expected=_TYPES, remedy="add data_type")
    if not tensor.dims:
        yield NO_DIMS.at(
            model.place(role, number, "dims"),
            found=f"{who} without dims",
            expected="the tensor's shape, without the batch dimension",
            remedy="add dims, -1 is any size; for a scalar: "
            + ("dims: [ 1 ] reshape { shape: [ ] }" if model.config.max_batch_size else "dims: [ 1 ]"),
        )
    for index, dim in enumerate(tensor.dims):
        if dim < 1 and dim != -1:
            yield _bad_dim(model, BAD_DIM, (role, number, "dims", index), f"{who} has dimension {dim}")
    if tensor.HasField("reshape"):
        yield from _check_reshape(model, role, number, tensor)


def _bad_dim(model: Model, rule: Rule, path: Sequence[str | int], found: str) -> Finding:
    return rule.at(
        model.place(*path), found=found, expected="1 or more, or -1", remedy="set the size, or -1 if it varies"
    )


def _check_reshape(model: Model, role: str, number: int, tensor: Any) -> Iterator[Finding]:
    place, who = model.place(role, number, "reshape"), _title(role, number, tensor)
    dims, shape = list(tensor.dims), list(tensor.reshape.shape)
    if not shape and model.config.max_batch_size == 0:
        remedy = "set shape: [ 1 ], or max_batch_size"
        yield EMPTY_RESHAPE.at(place, found=f"{who} has an empty reshape", expected="a shape", remedy=remedy)
    for index, dim in enumerate(shape):
        if dim < 1 and dim != -1:
            path = (role, number, "reshape", "shape", index)
            yield _bad_dim(model, RESHAPE_DIM, path, f"{who} has dimension {dim} in its reshape")
    before, after = _count_elements(dims), _count_elements(shape)
    if before != after:
        yield RESHAPE_SIZE.at(
            place,
            found=f"{who}: dims {dims} and reshape {shape} differ in size ({_size(before)} and {_size(after)})",
            expected="the same number of elements",
            remedy="correct one of them",
        )
    elif before == -1 and _runs(dims) != _runs(shape):
        yield RESHAPE_OPEN.at(
            place,
            found=f"{who}: dims {dims} and reshape {shape}",
            expected="as many -1 in both, with the same number of elements between them",
            remedy="correct one of them",
        )


def _count_elements(shape: Sequence[int]) -> int:
    """The number of elements; -1 if it varies."""
    return -1 if -1 in shape else prod(shape)


def _size(count: int) -> str:
    return "any number" if count == -1 else f"{count} element{'s' * (count > 1)}"


def _runs(shape: Sequence[int]) -> list[int]:
    """The numbers of elements before, between and after the variable dimensions."""
    counts = [1]
    for dim in shape:
        if dim == -1:
            counts.append(1)
        else:
            counts[-1] *= dim
    return counts


def _check_platform(model: Model, role: str, number: int, tensor: Any) -> Iterator[Finding]:
    who = _title(role, number, tensor)
    if role == "input" and tensor.format in (ModelInput.FORMAT_NHWC, ModelInput.FORMAT_NCHW) and len(tensor.dims) != 3:
        yield FORMAT.at(
            model.place(role, number, "format"),
            found=f"{who} has {len(tensor.dims)} dims",
            expected=f"three dims for {ModelInput.Format.Name(tensor.format)}",
            remedy="remove format, or set height, width and channels",
        )
    if tensor.is_shape_tensor and model.config.platform != _PLAN:
        place = model.place(role, number, "is_shape_tensor")
        yield SHAPE_TENSOR.at(place, found=f"{who} is a shape tensor", expected=f"platform {_PLAN}", remedy="remove it")
    if tensor.is_non_linear_format_io and (model.config.platform != _PLAN or len(tensor.dims) != 3):
        yield NON_LINEAR.at(
            model.place(role, number, "is_non_linear_format_io"),
            found=f"{who} has {len(tensor.dims)} dims on platform '{model.config.platform}'",
            expected=f"three dims on platform {_PLAN}",
            remedy="remove is_non_linear_format_io",
        )


def type_name(number: int) -> str:
    """The name of a data type, or its number if it has none."""
    return str(DataType.Name(number)) if number in DataType.values() else str(number)


def _check_batch_inputs(model: Model) -> Iterator[Finding]:
    for number, tensor in enumerate(model.config.batch_input):
        yield from _check_source(model, "batch_input", number, tensor, tensor.kind in BatchInput.Kind.values())
        if tensor.data_type not in (DataType.TYPE_INT32, DataType.TYPE_FP32):
            yield BATCH_TYPE.at(
                model.place("batch_input", number, "data_type"),
                found=f"batch_input of type {type_name(tensor.data_type)}",
                expected="TYPE_INT32 or TYPE_FP32",
                remedy="set one of them",
            )


def _check_batch_outputs(model: Model) -> Iterator[Finding]:
    outputs = {output.name for output in model.config.output}
    for number, tensor in enumerate(model.config.batch_output):
        yield from _check_source(model, "batch_output", number, tensor, tensor.kind == 0)
        for index, name in enumerate(tensor.target_name):
            if name not in outputs or name in tensor.target_name[:index]:
                yield BATCH_NAME.at(
                    model.place("batch_output", number, "target_name", index),
                    found=f"batch_output targets output '{name}'"
                    + (" again" if name in outputs else ", which does not exist"),
                    expected=f"an output, each at most once: {', '.join(sorted(outputs)) or 'none'}",
                    remedy="name an output",
                )


def _check_source(model: Model, role: str, number: int, tensor: Any, known: bool) -> Iterator[Finding]:
    inputs = [source.name for source in model.config.input]
    if len(tensor.source_input) != 1 or not known:
        yield BATCH_KIND.at(
            model.place(role, number),
            found=f"{role} with {len(tensor.source_input)} source inputs" if known else f"{role} of kind {tensor.kind}",
            expected="one source_input and a known kind",
            remedy="name the input that it is computed from, or correct the kind",
        )
    for index, name in enumerate(tensor.source_input):
        if name not in inputs:
            yield BATCH_NAME.at(
                model.place(role, number, "source_input", index),
                found=f"{role} names unknown input '{name}'",
                expected=f"one of {', '.join(inputs) or 'none'}",
                remedy="name an input",
            )
