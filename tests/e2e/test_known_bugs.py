"""The rules about known bugs are right about the real server: it loads such models, and answers wrongly."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from torch import Tensor, nn

from tests.compiler import NEEDS_NATIVE
from tests.conftest import served
from tests.differential.examples import write_example
from tools import torchscript
from tools.check.releases import EMBEDDED, SERVERS
from tools.check.rules import RULES, check
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

# One of the models keeps state, which the Python-based backend cannot.
pytestmark = NEEDS_NATIVE
TENSOR = '{ name: "NAME" data_type: TYPE_FP32 dims: [ -1 ] }'
X, Y, Z = (TENSOR.replace("NAME", name) for name in "XYZ")
SEQUENCE = (
    """control_input { name: "START__CONTROL" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }"""
)
CONFIGS = {
    "cached": f'backend: "python" max_batch_size: 8 input {X} output [ {Y}, {Z} ] response_cache {{ enable: true }}',
    "state": f"""backend: "python" input {X} output {Y}
        sequence_batching {{ {SEQUENCE.replace("CONTROL", "0", 1)}
          state {{ input_name: "IN" output_name: "OUT" data_type: TYPE_FP32 dims: [ 1 ]
            initial_state {{ name: "zero" data_type: TYPE_FP32 dims: [ 1 ] zero_data: true }} }} }}""",
    "swapped": f"""backend: "pytorch" input {X.replace('"X"', '"X__0"').replace("-1", "1")}
        output {Y.replace('"Y"', '"Y__0"').replace("-1", "1")}
        sequence_batching {{ {SEQUENCE.replace("CONTROL", "3", 1)}
          state {{ input_name: "cache__1" output_name: "cache_next__1" data_type: TYPE_FP32 dims: [ 1 ]
            initial_state {{ name: "zero" data_type: TYPE_FP32 dims: [ 1 ] zero_data: true }} }}
          state {{ input_name: "cache_len__2" output_name: "cache_len_next__2" data_type: TYPE_FP32 dims: [ 1 ]
            initial_state {{ name: "zero" data_type: TYPE_FP32 dims: [ 1 ] zero_data: true }} }} }}""",
}
EXPECTED = {
    "cached": {"cache-shapes", "cache-outputs", "cache-leak"},
    "state": {"state-not-kept"},
    "swapped": {"states-swapped"},
}
MODELS = {
    "cached": """
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        outputs = [pb_utils.Tensor("Y", x), pb_utils.Tensor("Z", -x)]""",
    "state": """
        state = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        outputs = [pb_utils.Tensor("Y", state), pb_utils.Tensor("OUT", state + 1)]""",
}
SLOW = """
import time
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.2)
        inputs = [pb_utils.get_input_tensor_by_name(request, "X").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", x)]) for x in inputs]
"""
PYTHON = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(self.answer(request)) for request in requests]

    def answer(self, request):BODY
        return [output for output in outputs if output.name() in request.requested_output_names()]
"""


class Counters(nn.Module):
    """Returns the first state and counts both, one by ones and one by hundreds."""

    def forward(
        self, X__0: Tensor, cache__1: Tensor, cache_len__2: Tensor, start__3: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        return cache__1, cache__1 + 1, cache_len__2 + 100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("bugs") / "models"
    for name, config in CONFIGS.items():
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
        if name in MODELS:
            (folder / name / "1" / "model.py").write_text(PYTHON.replace("BODY", MODELS[name]))
        else:
            torchscript.save(Counters(), folder / name / "1" / "model.pt")
    with served(Options(folder, hardware="cpu", flags=("--cache-config=local,size=1048576",))) as running:
        yield running


def ask(server: Server, model: str, x: list[list[float]] | list[float], output: str, **sequence: Any) -> dict[str, Any]:
    shape = [len(x), len(x[0])] if isinstance(x[0], list) else [len(x)]
    name = "X__0" if model == "swapped" else "X"
    tensor = {"name": name, "shape": shape, "datatype": "FP32", "data": x}
    body = {"inputs": [tensor], "outputs": [{"name": output}], "parameters": sequence}
    with urlopen(f"http://{server.http}/v2/models/{model}/infer", json.dumps(body).encode()) as response:
        (answer,) = json.load(response)["outputs"]
    return dict(answer)


def test_the_embedded_server_is_of_the_release_that_the_checker_takes_it_for(server: Server) -> None:
    with urlopen(f"http://{server.http}/v2") as response:
        assert json.load(response)["version"] == f"2.{SERVERS[EMBEDDED]}.0"


def test_the_rules_name_these_models(server: Server) -> None:
    named: dict[str, set[str]] = {}
    for finding in check(server.options.repository):
        named.setdefault(finding.model, set()).add(finding.rule)
    assert {model: named[model] & EXPECTED[model] for model in EXPECTED} == EXPECTED


def test_a_cached_answer_belongs_to_other_shapes_and_other_outputs(server: Server) -> None:
    assert ask(server, "cached", [[1, 2], [3, 4]], "Y")["shape"] == [2, 2]
    assert ask(server, "cached", [[1, 2, 3, 4]], "Y")["shape"] == [2, 2]
    assert ask(server, "cached", [[1, 2], [3, 4]], "Z")["name"] == "Y"


def test_the_python_backend_keeps_no_state(server: Server) -> None:
    answers = [ask(server, "state", [0.0], "Y", sequence_id=7, sequence_start=not turn) for turn in range(3)]
    assert [answer["data"] for answer in answers] == [[0.0], [0.0], [0.0]]


def test_a_full_queue_beside_another_step_ends_the_server(tmp_path: Path) -> None:
    write_example(RULES["step-queue-full"], tmp_path)
    for name in ("limited", "member"):
        config = tmp_path / name / "config.pbtxt"
        config.write_text(config.read_text().replace("max_batch_size: 8", "max_batch_size: 1"))
        (tmp_path / name / "1" / "model.py").write_text(SLOW)
    model = tmp_path / "model" / "config.pbtxt"
    model.write_text(model.read_text().replace("max_batch_size: 8", "max_batch_size: 1"))
    assert "step-queue-full" in {finding.rule for finding in check(tmp_path)}
    flags = ("--model-control-mode=explicit", "--load-model=model")
    tensor = {"name": "A", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 0]}
    body = json.dumps({"inputs": [tensor]}).encode()
    with served(Options(tmp_path, hardware="cpu", flags=flags)) as running, ThreadPoolExecutor(6) as pool:
        for _ in range(6):
            pool.submit(urlopen, f"http://{running.http}/v2/models/model/infer", body, 20)
        with pytest.raises(ServerError, match="was killed by SIGSEGV"):
            for _ in range(100):
                running.check()
                time.sleep(0.2)


def test_states_whose_names_sort_differently_are_swapped(server: Server) -> None:
    answers = [ask(server, "swapped", [0.0], "Y__0", sequence_id=7, sequence_start=not turn) for turn in range(2)]
    # As the config says, the second request would get 1.
    assert [answer["data"] for answer in answers] == [[0.0], [100.0]]
