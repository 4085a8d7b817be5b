"""What Triton's queue refuses, as the client and as the server count it, on a model that answers twenty a second."""

import json
from pathlib import Path

import pytest

from tests.conftest import Command, served
from tools.serve.tritonserver import Options

INVALID = 3
CONFIG = """
name: "slow"
backend: "python"
max_batch_size: 1
input {{ name: "X" data_type: TYPE_FP32 dims: [ 1 ] }}
output {{ name: "X" data_type: TYPE_FP32 dims: [ 1 ] }}
instance_group {{ kind: KIND_CPU count: 1 }}
dynamic_batching {{ default_queue_policy {{ {policy} }} }}
"""
MODEL = """
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.05)
        tensors = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("X", tensor)]) for tensor in tensors]
"""


# Triton 2.51 counts as REJECTED what has waited too long, not what finds the queue full: that is the caller's alone.
@pytest.mark.parametrize(
    ("policy", "kind", "counted"),
    [
        ("timeout_action: REJECT default_timeout_microseconds: 300000", "Request timeout expired", True),
        ("max_queue_size: 2", "Exceeds maximum queue size", False),
    ],
)
def test_requests_that_the_queue_refuses_are_errors_of_their_kind(
    command: Command, tmp_path: Path, policy: str, kind: str, counted: bool
) -> None:
    version = tmp_path / "slow" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (tmp_path / "slow" / "config.pbtxt").write_text(CONFIG.format(policy=policy))
    load = ["--rate", "80", "--arrivals", "constant", "--duration", "1", "--warm-up", "0"]
    with served(Options(tmp_path)) as server:
        places = ["--url", server.http, "--metrics-url", server.metrics, "--report", str(tmp_path / "report")]
        result = command("loadtest.run", "slow", *load, *places)
    assert result.returncode in (0, INVALID), result.stderr  # Others may use the host.
    document = json.loads(result.stdout.splitlines()[-1])
    message, refused = max(document["error_kinds"].items(), key=lambda item: item[1])
    assert kind in message
    assert refused > 30
    assert document["server"]["rejects"]["failed"] == ({"slow": {"REJECTED": refused}} if counted else {})
