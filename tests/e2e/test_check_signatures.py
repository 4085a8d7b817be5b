"""What tools.check says about TorchScript signatures and results, and what the real backends do with them when served.

Neither may be alone in its verdict: a model that is refused or fails every request has an error, others have none.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tritonclient.grpc as grpc
from google.protobuf import text_format
from torch import nn
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.utils import InferenceServerException

from tests.compiler import NEEDS_NATIVE
from tests.conftest import served
from tests.e2e.backend_models import ALONE, BATCHES, DTYPES, inputs, outputs
from tools import torchscript
from tools.check.rules import check, check_deep
from tools.serve.tritonserver import Options, Server

NUMPY = dict(zip(DTYPES, ("?", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8"), strict=True))
ONE = inputs("x") + outputs("y")
WITH_ID = """max_batch_size: 8
input { name: "x__0" data_type: TYPE_FP32 dims: [ 2 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 2 ] }
sequence_batching { control_input { name: "ID__1" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } } }
"""
TEXT_ROWS = """max_batch_size: 8
input { name: "x" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } }
output { name: "y" data_type: TYPE_STRING dims: [ 1 ] reshape { shape: [ ] } }
"""
RESHAPED = (BATCHES + ONE).replace("[ 2 ]", "[ 2 ] reshape { shape: [ 1, 2 ] }")


@dataclass(frozen=True)
class Case:
    """A `forward`, as TorchScript source, and a config.

    Attributes:
        rule: the error that tools.check finds; empty if the model answers.
    """

    forward: str
    config: str = BATCHES + ONE
    rule: str = ""


def case(arguments: str, returned: str, rule: str = "", config: str = BATCHES + ONE, declared: str = "") -> Case:
    arrow = f" -> {declared}" if declared else ""
    return Case(f"def forward(self, {arguments}){arrow}:\n    return {returned}\n", config, rule)


TEXT_OUT = ALONE + inputs("x") + outputs("y:STRING", dims="-1")
VARIABLE = outputs("y", dims="-1")
TEXT_IN = ALONE + inputs("x:STRING", dims="-1")
RESULT, ARGUMENT, INPUTS = "torchscript-result", "torchscript-argument", "torchscript-inputs"
FAILS, INDEX = "torchscript-fails", "torchscript-outputs"
CASES = {
    "tensor": case("x: Tensor", "x"),
    "tuple": case("x: Tensor", "(x, -x)", config=BATCHES + inputs("x") + outputs("A__1", "B__0")),
    "dict": case("x: Tensor", '{"y": x}', RESULT),
    "list": case("x: Tensor", "[x, x]", RESULT),
    "nested": case("x: Tensor", "(x, (x, x))"),
    "nested_index": case("x: Tensor", "(x, (x, x))", RESULT, BATCHES + inputs("x") + outputs("y__1")),
    "float": case("x: Tensor", "float(x.sum())", RESULT),
    "int_in_tuple": case("x: Tensor", "(x, x.size(0))", RESULT, BATCHES + inputs("x") + outputs("y__1")),
    "bool": case("x: Tensor", "x.size(0) > 3", RESULT),
    "scalar": case("x: Tensor", "x.sum()", FAILS),
    "optional": case("x: Tensor", "x if x.size(0) > 0 else None", declared="Optional[Tensor]"),
    "optional_none": case("x: Tensor", "None if x.size(0) > 0 else x", FAILS, declared="Optional[Tensor]"),
    "optional_tuple": case("x: Tensor", "(x, x) if x.size(0) else None", declared="Optional[Tuple[Tensor, Tensor]]"),
    "nothing": case("x: Tensor", "None", RESULT),
    "no_results": case("x: Tensor", "()", INDEX, declared="Tuple[()]"),
    "index": case("x: Tensor", "(x, x)", INDEX, BATCHES + inputs("x") + outputs("y__2")),
    "texts_out": case("x: Tensor", '["a", "b"]', config=TEXT_OUT),
    "texts_for_tensor": case("x: Tensor", '["a", "b"]', RESULT),
    "tensor_for_texts": case("x: Tensor", "x", RESULT, TEXT_OUT),
    "numbers_for_texts": case("x: Tensor", "[1, 2]", RESULT, TEXT_OUT),
    "texts": case("x: List[str]", "x", config=TEXT_IN + outputs("y:STRING", dims="-1")),
    "text_rows": case("x: List[str]", "x", config=TEXT_ROWS),
    "tensors": case("x: List[Tensor]", "x[0]", ARGUMENT),
    "texts_from_tensor": case("x: List[str]", "torch.ones(len(x), 2)", ARGUMENT),
    "tensor_from_texts": case("x: Tensor", "x", ARGUMENT, TEXT_IN + VARIABLE),
    "tuple_in": case("x: Tuple[Tensor, Tensor]", "x[0]", INPUTS),
    "optional_in": case("x: Optional[Tensor]", "torch.ones(1, 2)", INPUTS),
    "int_in": case("x: Tensor, n: int", "x + n", INPUTS),
    "default_in": case("x: Tensor, n: int = 3", "x + n", INPUTS),
    "too_few": case("x: Tensor, z: Tensor", "x + z", INPUTS),
    "named": case("named: Dict[str, Tensor]", 'named["x"]'),
    "named_numbers": case("named: Dict[str, int]", 'torch.ones(1, named["x"])', ARGUMENT),
    "named_texts": case("named: Dict[str, Tensor]", "torch.ones(len(named))", ARGUMENT, TEXT_IN + VARIABLE),
    "double": case("x: Tensor", "x.double()", FAILS),
    "reshaped": case("x: Tensor", "x + 1", config=RESHAPED),
    "id": case("x: Tensor, id: Tensor", "x + id", config=WITH_ID),
    "big_id": case("x: Tensor, id: Tensor", "x", "pytorch-control-type", WITH_ID.replace("INT64", "UINT64")),
    **{
        f"same_{dtype}": case("x: Tensor", "x", config=BATCHES + inputs(f"x:{dtype}") + outputs(f"y:{dtype}"))
        for dtype in DTYPES
    },
}  # fmt: skip
# Each costs a process with torch.
OF_PYTHON = (
    "list",
    "nested_index",
    "float",
    "nothing",
    "tensors",
    "tensor_from_texts",
    "text_rows",
    "named",
    "optional_in",
)


def scripted(forward: str) -> torch.jit.ScriptModule:
    # TorchScript compiles one `forward` per class, so each needs its own.
    class Empty(nn.Module):
        pass

    module = torch.jit.script(Empty())
    module.define(forward)
    return module


def write(repository: Path, names: tuple[str, ...]) -> Path:
    """Write models; every second config has no name."""
    for number, name in enumerate(names):
        folder = repository / name / "1"
        folder.mkdir(parents=True)
        own = f'name: "{name}"\n' if number % 2 else ""
        config = f'{own}backend: "pytorch"\ninstance_group {{ kind: KIND_CPU }}\n{CASES[name].config}'
        (repository / name / "config.pbtxt").write_text(config)
        with torchscript.quiet():
            scripted(CASES[name].forward).save(str(folder / "model.pt"))
    return repository


def tensor(spec: Any, batched: bool) -> grpc.InferInput:
    """A request's input that a config admits."""
    datatype = DataType.Name(spec.data_type).removeprefix("TYPE_")
    shape = [1] * batched + [2 if dim < 0 else dim for dim in spec.dims]
    made = grpc.InferInput(spec.name, shape, "BYTES" if datatype == "STRING" else datatype)
    made.set_data_from_numpy(np.full(shape, b"a", object) if datatype == "STRING" else np.ones(shape, NUMPY[datatype]))
    return made


def answers(server: Server, repository: Path, name: str) -> bool:
    """Whether the server loads a model and answers a request."""
    config = text_format.Parse((repository / name / "config.pbtxt").read_text(), ModelConfig())
    sequence = {"sequence_id": 7, "sequence_start": True} if config.HasField("sequence_batching") else {}
    sent = [tensor(spec, config.max_batch_size > 0) for spec in config.input]
    with grpc.InferenceServerClient(server.grpc) as client:
        try:
            client.load_model(name)
            return bool(client.infer(name, sent, client_timeout=60, **sequence))
        except InferenceServerException:
            return False


def errors(repository: Path) -> dict[str, set[str]]:
    """The errors of `tools.check --deep` by model."""
    found = check(repository)
    found += check_deep(repository, {finding.model for finding in found if finding.severity == "error"})
    wrong = [(finding.model, finding.rule) for finding in found if finding.severity == "error"]
    return {path.name: {rule for model, rule in wrong if model == path.name} for path in repository.iterdir()}


@pytest.mark.parametrize(
    ("backend", "names"), [pytest.param("native", tuple(CASES), marks=NEEDS_NATIVE), ("python", OF_PYTHON)]
)
def test_a_model_has_an_error_if_and_only_if_the_backend_cannot_serve_it(
    backend: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    repository = write(tmp_path / "models", names)
    found = errors(repository)
    flags = ("--model-control-mode=explicit",)
    with served(Options(repository, backend=backend, flags=flags)) as server, ThreadPoolExecutor(2) as pool:
        answered = dict(zip(names, pool.map(lambda name: answers(server, repository, name), names), strict=True))
    assert {name: sorted(found[name]) for name in names} == {
        name: [CASES[name].rule] if CASES[name].rule else [] for name in names
    }
    assert answered == {name: not CASES[name].rule for name in names}
