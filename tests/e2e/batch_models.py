"""Small models for Triton's Python backend that take what the repository's own models do not: bytes, pixels, pairs."""

from pathlib import Path

TYPES = {"FP32": "TYPE_FP32", "BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "INT32": "TYPE_INT32"}
# A model's largest batch, inputs and outputs ("NAME TYPE dims"), and the outputs of one row as an expression.
MODELS = {
    # Decodes the whole file, and answers a batch with the failure of any of its rows, as libtorch's backend does.
    "from_bytes": (8, ["IMAGE BYTES 1"], ["SIZE INT32 2", "LABEL BYTES 1"], "decoded(IMAGE)"),
    "from_pixels": (8, ["IMAGE UINT8 -1, -1, -1"], ["MEAN FP32 3"], "IMAGE.mean((0, 1), dtype='f4')"),
    "small_pixels": (8, ["IMAGE UINT8 4, 5, 3"], ["MEAN FP32 3"], "IMAGE.mean((0, 1), dtype='f4')"),
    "pair": (0, ["A FP32 2", "B FP32 2"], ["SUM FP32 2", "PRODUCT FP32 2"], "(A + B, A * B)"),
    "double": (8, ["X FP32 2"], ["Y FP32 2"], "X * 2"),
    "uneven": (8, ["X FP32 2"], ["Y FP32 -1"], "np.repeat(X, int(X[0]) + 1)"),
    "broken": (8, ["X FP32 2"], ["Y FP32 2"], "X / None"),
}
SOURCE = """
import io

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image


def decoded(image):
    with Image.open(io.BytesIO(image[0])) as picture:
        return np.array(picture.convert("RGB").size, "i4"), np.array([f"{picture.width} wide".encode()], object)


class TritonPythonModel:
    def execute(self, requests):
        try:
            return [answer(request) for request in requests]
        except Exception as error:
            return [pb_utils.InferenceResponse([], pb_utils.TritonError(f"cannot: {error}")) for _ in requests]


def answer(request):
    arrays = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    rows = zip(*arrays.values()) if BATCHED else [arrays.values()]
    results = [row_of(dict(zip(arrays, row))) for row in rows]
    columns = [np.stack(column) if BATCHED else column[0] for column in zip(*results)]
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, column) for name, column in zip(OUTPUTS, columns)])


def row_of(inputs):
    result = eval(ROW, globals(), inputs)
    return result if isinstance(result, tuple) else (result,)
"""


def write(repository: Path) -> Path:
    """Write a repository of these models."""
    for name, (most, inputs, outputs, row) in MODELS.items():
        (repository / name / "1").mkdir(parents=True)
        tensors = "\n".join(
            [*(tensor("input", spec) for spec in inputs), *(tensor("output", spec) for spec in outputs)]
        )
        batching = "dynamic_batching {}" if most else ""
        (repository / name / "config.pbtxt").write_text(
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: {most}\n{tensors}\n{batching}\n'
            "instance_group { kind: KIND_CPU }\n"
        )
        known = f"BATCHED, OUTPUTS, ROW = {bool(most)}, {[spec.split()[0] for spec in outputs]}, {row!r}\n"
        (repository / name / "1" / "model.py").write_text(known + SOURCE)
    return repository


def tensor(role: str, text: str) -> str:
    """One input or output of a config."""
    name, kind, dims = text.split(" ", 2)
    return f'{role} {{ name: "{name}" data_type: {TYPES[kind]} dims: [ {dims} ] }}'
