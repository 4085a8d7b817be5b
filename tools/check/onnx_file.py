"""What an ONNX file says about its inputs and outputs, read without onnx: its protobuf messages, field by field.

The fields' numbers are those of onnx.proto: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Triton's data types by ONNX's numbers.
_TYPES = {
    **{1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "STRING"},
    **{9: "BOOL", 10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64", 16: "BF16"},
}
_GRAPH, _INITIALIZER, _INPUT, _OUTPUT = 7, 5, 11, 12
_INITIALIZER_NAME = 8


class OnnxError(ValueError):
    """The file is not ONNX, or a tensor has a type that Triton lacks."""


@dataclass(frozen=True)
class OnnxTensor:
    """A tensor of the graph; a size that varies is -1."""

    name: str
    data_type: str
    dims: tuple[int, ...]


def read_onnx(file: Path) -> tuple[tuple[OnnxTensor, ...], tuple[OnnxTensor, ...]]:
    """Read inputs, without those that have a value in the file, and outputs.

    Raises:
        OnnxError: the file cannot be read.
    """
    try:
        # Mapped, because weights of gigabytes lie between the fields; it is unmapped with the last view on it.
        with file.open("rb") as stream:
            return _tensors(memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)))
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise OnnxError(f"{file.name} cannot be read as ONNX: {error!r}") from error


def _tensors(model: memoryview) -> tuple[tuple[OnnxTensor, ...], tuple[OnnxTensor, ...]]:
    found: dict[int, list[OnnxTensor]] = {_INPUT: [], _OUTPUT: []}
    given = set()
    for graph in _messages(model, _GRAPH):
        for number, value in _fields(graph):
            if number in found and isinstance(value, memoryview):
                found[number].append(_tensor(value))
            elif number == _INITIALIZER and isinstance(value, memoryview):
                given |= {bytes(name).decode() for name in _messages(value, _INITIALIZER_NAME)}
    if not found[_OUTPUT]:
        raise ValueError("no outputs")
    return tuple(tensor for tensor in found[_INPUT] if tensor.name not in given), tuple(found[_OUTPUT])


def _tensor(info: memoryview) -> OnnxTensor:
    (name,) = (bytes(value).decode() for value in _messages(info, 1))
    kind = [tensor for described in _messages(info, 2) for tensor in _messages(described, 1)][-1]
    number = [value for field, value in _fields(kind) if field == 1 and isinstance(value, int)][-1]
    dims = [_size(dim) for shape in _messages(kind, 2) for dim in _messages(shape, 1)]
    return OnnxTensor(name, f"TYPE_{_TYPES[number]}", tuple(dims))


def _size(dim: memoryview) -> int:
    return next((value for number, value in _fields(dim) if number == 1 and isinstance(value, int)), -1)


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    return (value for number, value in _fields(message) if number == wanted and isinstance(value, memoryview))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message by their numbers: integers, and bytes for all others."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        size, place = _varint(message, place) if kind == 2 else ({1: 8, 5: 4}[kind], place)
        if place + size > len(message):
            raise ValueError("it is cut off")
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte < 0x80:
            return value, place
