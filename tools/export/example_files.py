"""Examples of a network's inputs from files: arrays by input name (.npz), JSON, or images.

A file holds one input without the batch, or several: an array with one more dimension than the input, a list of JSON
objects.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tritonclient.utils import np_to_triton_dtype

from clients.contract import Array, TensorSpec, fits
from clients.decoding import decode
from clients.errors import InvalidInput
from clients.images import SUFFIXES, ImageSpec, load_image, normalise
from tools.contract import Value, torch_dtype
from tools.export.samples import Samples
from tools.recipes import Imported, RecipeError
from tools.repository import ROOT

_FORMS = f".npz, .json, or an image ({', '.join(sorted(SUFFIXES))})"


def samples_of(recipe: Imported, inputs: Sequence[TensorSpec]) -> Samples:
    """Read what an imported network is to be tried with; RecipeError if a file does not fit its inputs."""
    given = [row for text in recipe.examples for row in _rows(ROOT / text, inputs)]
    return Samples(recipe.dims, recipe.ranges, given)


def infer(files: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Infer names, types and dims of inputs from files with one example each; sizes that differ become -1."""
    examples = [_specs(ROOT / text) for text in files]
    first = examples[0]
    for text, specs in zip(files, examples, strict=True):
        if [(spec.name, spec.datatype, len(spec.dims)) for spec in specs] != [
            (spec.name, spec.datatype, len(spec.dims)) for spec in first
        ]:
            raise RecipeError(f"{text} has other inputs than {files[0]}: {_listed(specs)}, not {_listed(first)}")
    columns = zip(*examples, strict=True)
    return tuple(TensorSpec(column[0].name, column[0].datatype, _common(column)) for column in columns)


def _common(column: Sequence[TensorSpec]) -> tuple[int, ...]:
    return tuple(
        sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*(spec.dims for spec in column), strict=True)
    )


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name}:{spec.datatype}{list(spec.dims)}" for spec in specs)


def _specs(path: Path) -> tuple[TensorSpec, ...]:
    arrays = {"": _planes(path)} if path.suffix.lower() in SUFFIXES else _read(path)[0]
    return tuple(
        TensorSpec(name, "STRING" if array.dtype.kind in "USO" else str(np_to_triton_dtype(array.dtype)), array.shape)
        for name, array in arrays.items()
    )


def _read(path: Path) -> list[Mapping[str, Array]]:
    # Arrays by input name, for each object of the file; "" for a bare array.
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return [dict(arrays)]
        content = json.loads(path.read_text()) if path.suffix == ".json" else None
        objects = content if isinstance(content, list) and content and isinstance(content[0], dict) else [content]
        if content is not None:
            return [
                {name: _array(value) for name, value in (o if isinstance(o, dict) else {"": o}).items()}
                for o in objects
            ]
    except (OSError, ValueError) as error:
        raise RecipeError(f"the example {path} cannot be read: {error}") from error
    raise RecipeError(f"the example {path}: expected {_FORMS}")


def _array(value: Any) -> Array:
    array: Array = np.array(value)
    if array.dtype == np.object_:
        raise ValueError(f"expected numbers, booleans or texts, got {json.dumps(value)[:60]}")
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _rows(path: Path, inputs: Sequence[TensorSpec]) -> list[Mapping[str, Value]]:
    if path.suffix.lower() in SUFFIXES:
        return [_image(path, inputs)]
    rows: list[Mapping[str, Value]] = []
    for arrays in _read(path):
        named = {inputs[0].name: arrays[""]} if "" in arrays and len(inputs) == 1 else arrays
        wanted = [spec.name for spec in inputs]
        if named.keys() != set(wanted):
            raise RecipeError(f"{path} has {', '.join(named) or 'nothing'}; expected the inputs {', '.join(wanted)}")
        columns = {spec.name: _values(spec, named[spec.name], path) for spec in inputs}
        if len({len(column) for column in columns.values()}) > 1:
            counts = ", ".join(f"{len(column)} of {name}" for name, column in columns.items())
            raise RecipeError(f"{path} has different numbers of examples: {counts}")
        rows += [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return rows


def _values(spec: TensorSpec, array: Array, path: Path) -> list[Value]:
    # One example, or several in an array with one more dimension.
    if spec.datatype == "STRING":
        return [[str(text) for text in np.atleast_1d(array)]]
    dtype = torch_dtype(spec)
    tensor = torch.from_numpy(np.ascontiguousarray(array)) if array.dtype.kind in "biuf" else None
    if tensor is None or not torch.can_cast(tensor.dtype, dtype):
        raise RecipeError(f"{path}: {spec.name} is of type {array.dtype}; expected {spec.datatype}")
    for shape in (array.shape, array.shape[1:], (*array.shape, 1), (*array.shape[1:], 1)):
        if fits(spec.dims, shape):
            rows = tensor.to(dtype).reshape(-1, *shape) if tensor.numel() else tensor.to(dtype).reshape(1, *shape)
            return list(rows)
    raise RecipeError(f"{path}: {spec.name} has shape {list(array.shape)}; expected {list(spec.dims)}, or rows of that")


def _image(path: Path, inputs: Sequence[TensorSpec]) -> Mapping[str, Value]:
    # Pixels [height, width, 3] for UINT8, else planes [3, height, width] of numbers from 0 to 1.
    spec = inputs[0]
    is_pixels = spec.datatype == "UINT8"
    if len(inputs) != 1 or len(spec.dims) != 3 or spec.dims[2 if is_pixels else 0] not in (1, 3, -1):
        raise RecipeError(f"{path} is an image; expected an input [3, height, width], got {_listed(inputs)}")
    height, width = spec.dims[:2] if is_pixels else spec.dims[1:]
    planes = _planes(path, None if -1 in (height, width) else (height, width), 1 if 1 in spec.dims[:1] else 3)
    array = (planes * 255).round().transpose(1, 2, 0) if is_pixels else planes
    return {spec.name: torch.from_numpy(np.ascontiguousarray(array)).to(torch_dtype(spec))}


def _planes(path: Path, size: tuple[int, int] | None = None, channels: int = 3) -> Array:
    try:
        height, width = size or (np.asarray(decode(path, channels)).shape[:2])
        spec = ImageSpec(channels, height, width, (0.0,) * channels, (1.0,) * channels, False)
        planes: Array = normalise(load_image(path, spec)[None], spec)[0]
        return planes
    except (InvalidInput, OSError, ValueError) as error:
        raise RecipeError(f"the example {path} cannot be read: {error}") from error
