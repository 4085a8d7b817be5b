"""The KServe v2 protocol as any HTTP client speaks it: raw JSON posted with the real curl."""

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.client import Client
from clients.connection import Connection
from tools.serve.tritonserver import Server

SHAPE = (1, 3, 32, 32)


@pytest.fixture(autouse=True)
def curl_is_there() -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not on PATH")


def curl(url: str, *arguments: str) -> tuple[int, Any]:
    """HTTP status and JSON answer."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}", *arguments, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    text, status = done.stdout.rsplit("\n", 1)
    return int(status), json.loads(text)


def test_json_requests_get_json_responses(server: Server, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).uniform(-1, 1, math.prod(SHAPE)).astype(np.float32)
    tensor = {"name": "INPUT__0", "shape": SHAPE, "datatype": "FP32", "data": pixels.tolist()}
    request = tmp_path / "request.json"
    request.write_text(json.dumps({"inputs": [tensor]}))
    url = f"http://{server.http}/v2/models/cifar10_cnn/infer"
    status, answer = curl(url, "--data-binary", f"@{request}", "--header", "Content-Type: application/json")
    output, features = answer["outputs"]
    assert status == 200 and answer["model_name"] == "cifar10_cnn"
    assert (output["name"], output["datatype"], output["shape"]) == ("OUTPUT__0", "FP32", [1, 10])
    assert (features["name"], features["shape"]) == ("FEATURES__1", [1, 84])
    with Client(Connection("http", server.http)) as client:
        expected = client.infer("cifar10_cnn", pixels.reshape(SHAPE))["OUTPUT__0"]
    np.testing.assert_allclose([output["data"]], expected, rtol=1e-4, atol=1e-5)


def test_an_invalid_request_gets_the_reason(server: Server) -> None:
    url = f"http://{server.http}/v2/models/cifar10_cnn/infer"
    status, answer = curl(url, "--data", '{"inputs":[]}')
    assert status == 400 and "missing required input(s) ['INPUT__0']" in answer["error"]


def test_the_server_describes_a_model(server: Server) -> None:
    status, answer = curl(f"http://{server.http}/v2/models/cifar10_cnn")
    assert status == 200
    assert answer["inputs"] == [{"name": "INPUT__0", "datatype": "FP32", "shape": [-1, 3, 32, 32]}]
    assert answer["outputs"] == [
        {"name": "OUTPUT__0", "datatype": "FP32", "shape": [-1, 10]},
        {"name": "FEATURES__1", "datatype": "FP32", "shape": [-1, 84]},
    ]
