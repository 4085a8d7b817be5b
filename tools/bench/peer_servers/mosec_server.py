"""mosec: a front end in Rust, with dynamic batching before one Python worker.

MODEL_FILE=model.pt INPUT_SHAPE=784 MAX_BATCH=64 python -m tools.bench.peer_servers.mosec_server --port 8000
"""

import os

import numpy as np
import numpy.typing as npt
import torch
from mosec import Server, Worker

Row = npt.NDArray[np.float32]


class Model(Worker):
    """One instance of the model."""

    def __init__(self) -> None:
        """Load the model."""
        torch.set_num_threads(1)
        self.model = torch.jit.load(os.environ["MODEL_FILE"]).eval()
        self.shape = [int(size) for size in os.environ["INPUT_SHAPE"].split(",")]

    def deserialize(self, data: bytes) -> Row:
        """Read one row of float32."""
        return np.frombuffer(data, np.float32).reshape(self.shape)

    def serialize(self, data: Row) -> bytes:
        """Write one row of the first output."""
        return data.tobytes()

    def forward(self, data: list[Row]) -> list[Row]:
        """Answer a batch."""
        with torch.inference_mode():
            result = self.model(torch.from_numpy(np.stack(data)))
        return list((result[0] if isinstance(result, tuple) else result).numpy())


if __name__ == "__main__":
    server = Server()
    # A wait of 0 would turn batching off; 1 ms is the least that mosec takes.
    server.append_worker(Model, num=1, max_batch_size=int(os.environ["MAX_BATCH"]), max_wait_time=1)
    server.run()
