"""Inputs and outputs: names, data types, dims, reshapes and formats."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

from tritonclient.grpc.model_config_pb2 import DataType, ModelInput

from tools.check.finding import Finding, Rule
from tools.check.served import Model

BASE = 'name: "model"\nbackend: "pytorch"\nmax_batch_size: 8\n'
PLAN = "tensorrt_plan"

NO_NAME = Rule("tensor-name", "A tensor has no name", "core", BASE + "input { data_type: TYPE_FP32 dims: [ 4 ] }")
NO_TYPE = Rule("tensor-type", "A tensor has no data type", "core", BASE + 'input { name: "INPUT__0" dims: [ 4 ] }')
NO_DIMS = Rule("tensor-dims", "A tensor has no dims", "core", BASE + 'input { name: "INPUT__0" data_type: TYPE_FP32 }')
BAD_DIM = Rule(
    "dim-range",
    "A dimension is neither positive nor -1",
    "core",
    BASE + 'input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 0 ] }',
)
TWICE = Rule(
    "tensor-twice",
    "Two tensors have one name",
    example=BASE
    + 'input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] }, '
    + '{ name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] } ]',
)
EMPTY_RESHAPE = Rule(
    "reshape-empty",
    "An empty reshape in a model that takes no batches would be a scalar",
    "core",
    'name: "model"\nbackend: "pytorch"\ninput { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 1 ] reshape { } }',
)
RESHAPE_DIM = Rule(
    "reshape-range",
    "A dimension of a reshape is neither positive nor -1",
    "core",
    BASE + 'input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 0 ] } }',
)
RESHAPE_SIZE = Rule(
    "reshape-size",
    "dims and reshape hold different numbers of elements",
    "core",
    BASE + 'input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 3 ] } }',
)
RESHAPE_OPEN = Rule(
    "reshape-variable",
    "dims and reshape do not have their variable dimensions (-1) at places that correspond",
    "core",
    BASE + 'input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ -1, 4 ] reshape { shape: [ 2, -1, 4 ] } }',
)
FORMAT = Rule(
    "format-dims",
    "FORMAT_NHWC or FORMAT_NCHW on an input that has not three dims",
    "core",
    BASE + 'input { name: "INPUT__0" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 32, 32 ] }',
)
SHAPE_TENSOR = Rule(
    "shape-tensor",
    "is_shape_tensor outside TensorRT",
    "core",
    BASE + 'input { name: "INPUT__0" data_type: TYPE_INT32 dims: [ 2 ] is_shape_tensor: true }',
)
NON_LINEAR = Rule(
    "non-linear-format",
    "is_non_linear_format_io outside TensorRT, or without three dims",
    "core",
    BASE + 'input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] is_non_linear_format_io: true }',
)
RULES = (
    *(NO_NAME, NO_TYPE, NO_DIMS, BAD_DIM, TWICE, EMPTY_RESHAPE, RESHAPE_DIM, RESHAPE_SIZE, RESHAPE_OPEN),
    *(FORMAT, SHAPE_TENSOR, NON_LINEAR),
)
TYPES = "a TYPE_… such as TYPE_FP32"


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with a model's tensors."""
    for role in ("input", "output"):
        tensors = getattr(model.config, role)
        for number, tensor in enumerate(tensors):
            yield from check_tensor(model, role, number, tensor)
            yield from check_platform(model, role, number, tensor)
            if tensor.name and tensor.name in [other.name for other in tensors[:number]]:
                yield TWICE.at(
                    model.place(role, number, "name"),
                    found=f"{role} '{tensor.name}' again",
                    expected="names that differ",
                    remedy="rename one; Triton keeps the first and the backend gets both",
                )


def title(role: str, number: int, tensor: Any) -> str:
    """A tensor for a message."""
    return f"{role} '{tensor.name}'" if tensor.name else f"{role} number {number + 1}"


def check_tensor(model: Model, role: str, number: int, tensor: Any) -> Iterator[Finding]:
    """Name, data type, dims and reshape."""
    place, who = model.place(role, number), title(role, number, tensor)
    if not tensor.name:
        yield NO_NAME.at(place, found=f"{who} without a name", expected="a name", remedy='add name: "…"')
    if tensor.data_type == DataType.TYPE_INVALID:
        yield NO_TYPE.at(place, found=f"{who} without data_type", expected=TYPES, remedy="add data_type")
    if not tensor.dims:
        yield NO_DIMS.at(
            model.place(role, number, "dims"),
            found=f"{who} without dims",
            expected="the tensor's shape, without the batch dimension",
            remedy="add dims, [ 1 ] for one number; -1 stands for any size",
        )
    for index, dim in enumerate(tensor.dims):
        if dim < 1 and dim != -1:
            yield bad_dim(model, BAD_DIM, (role, number, "dims", index), f"{who} has the dimension {dim}")
    if tensor.HasField("reshape"):
        yield from check_reshape(model, role, number, tensor)


def bad_dim(model: Model, rule: Rule, path: Sequence[str | int], found: str) -> Finding:
    """A dimension that no tensor can have."""
    return rule.at(
        model.place(*path), found=found, expected="1 or more, or -1", remedy="set the size, or -1 where it varies"
    )


def check_reshape(model: Model, role: str, number: int, tensor: Any) -> Iterator[Finding]:
    """The dims and the reshape are two views of the same elements."""
    place, who = model.place(role, number, "reshape"), title(role, number, tensor)
    dims, shape = list(tensor.dims), list(tensor.reshape.shape)
    if not shape and model.config.max_batch_size == 0:
        remedy = "set shape: [ 1 ], or max_batch_size"
        yield EMPTY_RESHAPE.at(place, found=f"{who} has an empty reshape", expected="a shape", remedy=remedy)
    for index, dim in enumerate(shape):
        if dim < 1 and dim != -1:
            path = (role, number, "reshape", 0, "shape", index)
            yield bad_dim(model, RESHAPE_DIM, path, f"{who} has the dimension {dim} in its reshape")
    before, after = elements(dims), elements(shape)
    if before != after and not (not shape and before == 1):
        yield RESHAPE_SIZE.at(
            place,
            found=f"{who}: dims {dims} and reshape {shape} differ in size ({size(before)} and {size(after)})",
            expected="as many elements in both",
            remedy="correct one of the two",
        )
    elif before == -1 and stretches(dims) != stretches(shape):
        yield RESHAPE_OPEN.at(
            place,
            found=f"{who}: dims {dims} and reshape {shape}",
            expected="as many -1 in both, with as many elements between them",
            remedy="correct one of the two",
        )


def elements(shape: Sequence[int]) -> int:
    """How many elements a shape has; -1 if that varies, 0 for a shape of no dimensions."""
    if -1 in shape:
        return -1
    return prod(shape) if shape else 0


def size(count: int) -> str:
    """A number of elements for a message."""
    return "any number" if count == -1 else f"{max(count, 1)} element{'s' * (count > 1)}"


def stretches(shape: Sequence[int]) -> list[int]:
    """The numbers of elements before, between and after the variable dimensions."""
    counts = [1]
    for dim in shape:
        if dim == -1:
            counts.append(1)
        else:
            counts[-1] *= dim
    return counts


def check_platform(model: Model, role: str, number: int, tensor: Any) -> Iterator[Finding]:
    """What only some platforms or shapes allow."""
    who = title(role, number, tensor)
    if role == "input" and tensor.format in (ModelInput.FORMAT_NHWC, ModelInput.FORMAT_NCHW) and len(tensor.dims) != 3:
        yield FORMAT.at(
            model.place(role, number, "format"),
            found=f"{who} has {len(tensor.dims)} dims",
            expected=f"three for {ModelInput.Format.Name(tensor.format)}",
            remedy="remove format, or give height, width and channels",
        )
    if tensor.is_shape_tensor and model.config.platform != PLAN:
        place = model.place(role, number, "is_shape_tensor")
        yield SHAPE_TENSOR.at(place, found=f"{who} is a shape tensor", expected=f"platform {PLAN}", remedy="remove it")
    if tensor.is_non_linear_format_io and (model.config.platform != PLAN or len(tensor.dims) != 3):
        yield NON_LINEAR.at(
            model.place(role, number, "is_non_linear_format_io"),
            found=f"{who} has {len(tensor.dims)} dims on platform '{model.config.platform}'",
            expected=f"three dims on platform {PLAN}",
            remedy="remove is_non_linear_format_io",
        )


def type_name(number: int) -> str:
    """A data type's name; a number for one that has none."""
    return str(DataType.Name(number)) if number in DataType.values() else str(number)
