"""A model that doubles numbers until it is told otherwise, and the golden requests that notice it."""

from pathlib import Path

import numpy as np

NAME = "doubles"
_CONFIG = """
backend: "python"
max_batch_size: 8
input { name: "X" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { kind: KIND_CPU }
"""
# An order is a file; whoever finds it removes it and obeys until its process ends. "sticks" outlives that process, but
# not its server.
_MODEL = """
import os
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.orders = os.path.join(args["model_repository"], "orders")
        self.shift = float(os.path.exists(self.mark()))

    def mark(self):
        return os.path.join(self.orders, f"stuck-{os.getppid()}")

    def obey(self):
        try:
            with os.scandir(self.orders) as entries:
                order = next((entry.name for entry in entries if not entry.name.startswith("stuck-")), "")
            if order:
                os.remove(os.path.join(self.orders, order))
        except FileNotFoundError:
            return
        if order == "hangs":
            while True:
                time.sleep(60)
        if order == "sticks":
            open(self.mark(), "w").close()
        if order:
            self.shift = 1.0

    def execute(self, requests):
        self.obey()
        inputs = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", 2 * x + self.shift)]) for x in inputs]
"""


def write(repository: Path, name: str = NAME) -> None:
    """Write the model into a repository."""
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    (folder / "orders").mkdir()
    (folder / "config.pbtxt").write_text(_CONFIG)
    (folder / "1" / "model.py").write_text(_MODEL)
    x = np.array([[3.0]], np.float32)
    arrays = {"0/input/X": x, "0/output/Y": 2 * x}
    np.savez(folder / "1" / "golden.npz", tolerance=np.array(1e-3), **arrays)


def push_corrupt_version(repository: Path, name: str) -> None:
    """Put a newer version that does not load beside the good one."""
    (repository / name / "2").mkdir()
    (repository / name / "2" / "model.py").write_text("half a model, as a copy leaves it that was cut sh")


def order(repository: Path, name: str, what: str) -> None:
    """Have the next process of the model that looks obey: "hangs", "lies" or "sticks"."""
    (repository / name / "orders" / what).touch()
