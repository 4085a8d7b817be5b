"""Small models for Triton's Python backend that take what the repository's own models do not: bytes, pixels, pairs."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from clients.output import write_atomically

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
import math
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils
from PIL import Image


def decoded(image):
    with Image.open(io.BytesIO(image[0])) as picture:
        return np.array(picture.convert("RGB").size, "i4"), np.array([f"{picture.width} wide".encode()], object)


class TritonPythonModel:
    def initialize(self, args):
        self.hold, self.seen, self.rows = os.path.join(args["model_repository"], "hold"), "", 0

    def wait(self, rows):
        while self.rows >= self.limit():
            time.sleep(0.005)
        self.rows += rows

    def limit(self):
        try:
            with open(self.hold) as file:
                text = file.read()
        except FileNotFoundError:
            return math.inf
        if text != self.seen:
            self.seen, self.rows = text, 0
        return int(text.split()[0])

    def execute(self, requests):
        self.wait(sum(len(request.inputs()[0].as_numpy()) for request in requests))
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


@contextmanager
def held(repository: Path, name: str, rows: int) -> Iterator[Path]:
    """Within the block, a model answers so many rows and then waits: until its end, or that of the file."""
    hold = repository / name / "hold"
    # Each has a text of its own: the model counts anew.
    write_atomically(hold, f"{rows} {time.monotonic_ns()}")
    try:
        yield hold
    finally:
        hold.unlink(missing_ok=True)


def write(repository: Path, names: Iterable[str] = MODELS) -> Path:
    """Write a repository of these models."""
    for name in names:
        most, inputs, outputs, row = MODELS[name]
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
