"""What a model.py may do in process, it may do on the real server, with the same answers; so for what it may not."""

import ast
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clients.errors import ClientError
from tools.testing.in_process import in_process
from tools.testing.on_server import Bench
from tools.testing.program import Play, read_program
from tools.testing.python_model import Call, Outcome, PythonModel

MODELS = Path(__file__).with_name("python_models")
TIMEOUT_S = 5.0
Both = tuple[PythonModel, PythonModel]


def played(inputs: Any) -> dict[str, Any]:
    """In the place of the model `callee`."""
    if inputs["X"][0] < 0:
        raise ValueError("callee takes no negative numbers")
    return {"Y": inputs["X"] * 3.0, "Z": [7]}


def played_stream(inputs: Any) -> Iterator[dict[str, Any]]:
    """In the place of the decoupled model `callee_stream`."""
    if inputs["X"][0] < 0:
        raise ValueError("callee_stream takes no negative numbers")
    for number in range(2):
        yield {"Y": [number]}


PLAYS: dict[str, Play] = {"callee": played, "callee_stream": played_stream}


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(lambda line: None) as opened:
        yield opened


def both(bench: Bench, name: str, plays: dict[str, Play] | None = None) -> Iterator[Both]:
    program = read_program(MODELS / name / "1" / "model.py", None, plays or {})
    with ExitStack() as stack:
        real = stack.enter_context(bench.model(program, TIMEOUT_S))
        yield stack.enter_context(in_process(program, TIMEOUT_S)), real


@pytest.fixture(scope="module")
def odd(bench: Bench) -> Iterator[Both]:
    yield from both(bench, "odd")


@pytest.fixture(scope="module")
def stream(bench: Bench) -> Iterator[Both]:
    yield from both(bench, "stream")


@pytest.fixture(scope="module")
def asks(bench: Bench) -> Iterator[Both]:
    yield from both(bench, "asks", PLAYS)


@pytest.fixture(scope="module")
def completed(bench: Bench) -> Iterator[Both]:
    yield from both(bench, "completed")


def seen(outcome: Outcome) -> Any:
    """All that a client can tell of an outcome, but where it came from."""
    arrays = [
        {name: (str(array.dtype), array.shape, array.tolist()) for name, array in response.items()}
        for response in outcome.responses
    ]
    error = outcome.error
    return arrays, error and (type(error).__name__, words(error))


def words(error: ClientError) -> str:
    """An error's own words; pybind11 lists all signatures."""
    reason = re.sub(r"^.*?( in process|at grpc://\S+): ", "", str(error))
    reason = re.sub(r"'/\S+/", "'", reason)
    reason = re.sub(r"Failed to process the request for model '\w+', message: ", "", reason)
    return re.sub(r"(TypeError: ).*", r"\1…", reason)


def outcomes(models: Both, which: str, **options: Any) -> list[Any]:
    inputs = {"WHICH": np.array([which], object), **options.pop("inputs", {})}
    outputs = tuple(spec.name for spec in models[0].contract.outputs)
    return [seen(model.run([Call(inputs, outputs, **options)])[0]) for model in models]


def behaviours(name: str, table: str) -> list[str]:
    """The keys of a table in a model.py, which is not imported here."""
    tree = ast.parse((MODELS / name / "1" / "model.py").read_text())
    (found,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == table)
    return [key.value for key in found.keys]


@pytest.mark.parametrize("which", [*behaviours("odd", "GOOD"), "arguments"])
def test_what_is_answered_is_answered_the_same(odd: Both, which: str) -> None:
    inputs = {"X": np.array([1, 2, 3], np.float32), "B": np.array([True, False])}
    options = {"request_id": "first", "sequence_id": 5, "sequence_start": True, "timeout": 9, "inputs": inputs}
    options["parameters"] = {"a": "b", "c": 1, "d": True}
    if which == "absent":
        inputs.clear()
    mine, real = outcomes(odd, which, **options)
    assert mine == real
    assert mine[1] is None


@pytest.mark.parametrize("which", behaviours("odd", "BAD"))
def test_what_is_refused_is_refused_alike(odd: Both, which: str) -> None:
    mine, real = outcomes(odd, which)
    assert mine == real
    assert mine[1] is not None


def test_a_model_reads_the_same_config(odd: Both) -> None:
    mine, real = (json.loads(model.infer({"WHICH": np.array(["config"], object)})["TEXT"][0]) for model in odd)
    assert mine == real


@pytest.mark.parametrize("which", behaviours("stream", "WAYS"))
def test_the_answers_of_a_decoupled_model_come_in_the_same_order(stream: Both, which: str) -> None:
    mine, real = outcomes(stream, which)
    assert mine == real


@pytest.mark.parametrize("which", behaviours("asks", "WAYS"))
def test_other_models_are_asked_alike(asks: Both, which: str) -> None:
    mine, real = outcomes(asks, which)
    assert mine == real


def test_a_model_completes_its_config_and_takes_several_requests_at_once(completed: Both) -> None:
    inputs = [np.full((rows, 2), rows, np.float32) for rows in (1, 2, 1)]
    mine, real = ([answer["Y"].tolist() for answer in model.infer_together(*inputs)] for model in completed)
    assert mine == real == [[[2]], [[4], [4]], [[2]]]
