"""Golden requests: a few inputs of a version and the eager network's answers, and whether an answer is close to them.

    golden = read(Path("model_repository/mnist_mlp/1/golden.npz"))
    for case in golden.cases:
        print(complaint(case, client.infer("mnist_mlp", case.inputs), golden.tolerance) or "right")

`tools.export` makes the file: arrays `<case>/input/<TENSOR>` and `<case>/output/<TENSOR>`, and the tolerance. Anybody
with numpy reads it.
"""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clients.contract import Array
from clients.errors import InvalidInput
from clients.output import staged

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One request and its answer: arrays by tensor name, as they are sent, a batch of one for a model with batches.

    Without outputs, any answer is right.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass(frozen=True)
class Golden:
    """What a version carries: its tolerance is absolute, and relative to the expected number."""

    tolerance: float
    cases: tuple[Case, ...]


def read(path: Path) -> Golden | None:
    """Read the golden requests of a version; None where it was published without them.

    Raises:
        InvalidInput: the file is damaged, or none of ours.
    """
    if not path.is_file():
        return None
    try:
        # Opened here: numpy leaves a file that is no archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            tolerance, cases = float(arrays["tolerance"]), dict[str, dict[str, dict[str, Array]]]()
            for name in (name for name in arrays.files if name != "tolerance"):
                case, side, tensor = name.split("/", 2)
                cases.setdefault(case, {"input": {}, "output": {}})[side][tensor] = unpacked(arrays[name])
    except (OSError, ValueError, LookupError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path} cannot be read ({error}); export the model again") from error
    return Golden(
        tolerance,
        tuple(
            Case(cases[name]["input"], cases[name]["output"])
            for name in sorted(cases, key=lambda name: (len(name), name))
        ),
    )


def write(path: Path, golden: Golden) -> None:
    """Write such a file, in one rename."""
    arrays = {"tolerance": np.array(golden.tolerance)}
    for number, case in enumerate(golden.cases):
        for side, tensors in (("input", case.inputs), ("output", case.outputs)):
            arrays |= {f"{number}/{side}/{name}": packed(array) for name, array in tensors.items()}
    with staged(path) as place, place.open("wb") as file:
        np.savez_compressed(file, **arrays)


def packed(array: Array) -> Array:
    """An array as the file holds it: texts as bytes of one length, since objects would need pickle."""
    if array.dtype != np.object_:
        return array
    texts = [text if isinstance(text, bytes) else str(text).encode() for text in array.ravel()]
    return np.array(texts, np.bytes_).reshape(array.shape)


def unpacked(array: Array) -> Array:
    """An array as it is sent."""
    return array.astype(np.object_) if array.dtype.kind == "S" else array


def complaint(case: Case, outputs: Mapping[str, Array], tolerance: float) -> str:
    """What is wrong with an answer to a case; empty if nothing is, or if the case expects nothing in particular."""
    if not case.outputs:
        return ""
    for name, expected in case.outputs.items():
        served = outputs.get(name)
        if served is None or (served.dtype, served.shape) != (expected.dtype, expected.shape):
            came = "missing" if served is None else f"{served.dtype} {list(served.shape)}"
            return f"{name} is {came}; expected {expected.dtype} {list(expected.shape)}"
    is_row = all(array.shape[:1] == (1,) for array in case.outputs.values())
    right, came_back = (
        {name: side[name] if is_row else side[name][None] for name in case.outputs} for side in (case.outputs, outputs)
    )
    apart = difference(right, came_back, tolerance)
    if apart.excess[0] <= 1:
        return ""
    return f"{apart.output[0]} differs by {apart.absolute[0]:.2g}; allowed is {tolerance:g} absolute and relative"


@dataclass(frozen=True)
class Difference:
    """Two sets of answers to the same rows.

    Attributes:
        absolute: the largest difference of a number in each row, [rows].
        relative: the same as a share of the row's largest expected number in that output, [rows].
        excess: the same in multiples of the limit, [rows]; above 1 is too far.
        output: the worst output of each row.
    """

    expected: Mapping[str, Array]
    served: Mapping[str, Array]
    absolute: Floats
    relative: Floats
    excess: Floats
    output: tuple[str, ...]


def difference(expected: Mapping[str, Array], served: Mapping[str, Array], tolerance: float) -> Difference:
    """Compare answers to the same rows, arrays [rows, …] by output name.

    The tolerance is absolute, and relative to the expected number, as in numpy's allclose.
    """
    names, ambiguous = list(expected), _is_ambiguous(expected, tolerance)
    outputs = [_output_difference(expected[name], served[name], tolerance, ambiguous) for name in names]
    absolute, relative, excess = np.stack(outputs, axis=1)  # each [outputs, rows]
    worst = tuple(names[index] for index in excess.argmax(0))
    return Difference(expected, served, absolute.max(0), relative.max(0), excess.max(0), worst)


def _output_difference(expected: Array, served: Array, tolerance: float, ambiguous: npt.NDArray[np.bool_]) -> Floats:
    # Absolute and relative difference and excess of each row of one output: [3, rows].
    rows = len(expected)
    if expected.shape != served.shape:
        # Rows are compared, so a wrong shape is as wrong as can be in each of them.
        return np.full((3, rows), np.inf)
    if not expected.size:
        return np.zeros((3, rows))
    before, after = expected.reshape(rows, -1), served.reshape(rows, -1)
    if np.issubdtype(expected.dtype, np.floating):
        return _float_difference(before.astype(np.float64), after.astype(np.float64), tolerance)
    if expected.dtype == object:
        pairs = (zip(*row, strict=True) for row in zip(before, after, strict=True))
        wrong = np.array([max(_text_excess(*texts, tolerance) for texts in row) for row in pairs])
    else:
        wrong = np.where((before != after).any(1), np.inf, 0.0)
    return np.stack([np.zeros(rows), np.zeros(rows), np.where(ambiguous, 0.0, wrong)])


def _float_difference(before: Floats, after: Floats, tolerance: float) -> Floats:
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        apart = np.nan_to_num(np.abs(before - after), nan=np.inf, posinf=np.inf)
    apart[(np.isnan(before) & np.isnan(after)) | (before == after)] = 0.0
    size = np.abs(np.nan_to_num(before))
    largest = size.max(1) + np.finfo(np.float64).tiny
    excess = apart / (tolerance + tolerance * size)
    return np.stack([apart.max(1), apart.max(1) / largest, excess.max(1)])


def _text_excess(expected: bytes | str, served: bytes | str, tolerance: float) -> float:
    """0 for equal texts, the excess of their numbers for JSON that is equal otherwise, else infinity."""
    if expected == served:
        return 0.0
    try:
        return _json_excess(json.loads(expected), json.loads(served), tolerance)
    except ValueError:
        return float("inf")


def _json_excess(expected: Any, served: Any, tolerance: float) -> float:
    if isinstance(expected, float) and isinstance(served, float):
        return abs(expected - served) / (tolerance + tolerance * abs(expected))
    if isinstance(expected, dict) and isinstance(served, dict) and expected.keys() == served.keys():
        return max((_json_excess(part, served[key], tolerance) for key, part in expected.items()), default=0.0)
    if isinstance(expected, list) and isinstance(served, list) and len(expected) == len(served):
        return max((_json_excess(*parts, tolerance) for parts in zip(expected, served, strict=True)), default=0.0)
    return 0.0 if expected == served else float("inf")


def _is_ambiguous(expected: Mapping[str, Array], tolerance: float) -> npt.NDArray[np.bool_]:
    # Whether a row's two best scores are so close that the tolerance may change its class: [rows].
    for array in expected.values():
        if array.ndim == 2 and array.shape[1] > 1 and np.issubdtype(array.dtype, np.floating):
            second, best = np.sort(array, axis=1)[:, -2:].astype(np.float64).T
            return np.asarray(best - second <= 2 * tolerance * (1 + np.abs(best)), np.bool_)
    return np.zeros(len(next(iter(expected.values()))), np.bool_)
