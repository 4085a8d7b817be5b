"""Models unlike the repository's own: without batches, with several outputs, strings or variable lengths."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clients.classification import classify_files
from clients.client import Client
from clients.connection import PROTOCOLS, Protocol
from clients.errors import InvalidInput
from tests.conftest import connection_to, served
from tests.e2e.peers import STYLES, ask
from tools.serve.tritonserver import Options, Server

Call = Callable[..., Any]
PROGRAM = """
import numpy as np
import triton_python_backend_utils as pb

class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([pb.Tensor(*output) for output in answer(request)]) for request in requests]

def given(request, name):
    tensor = pb.get_input_tensor_by_name(request, name)
    return None if tensor is None else tensor.as_numpy()
"""
# The lengths of some texts, and the texts in capitals; a HINT is added to the lengths.
TEXTS = """
name: "texts" backend: "python"
input [
  { name: "TEXT" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "HINT" data_type: TYPE_FP32 dims: [ 1 ] optional: true }
]
output [
  { name: "UPPER" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "LENGTH" data_type: TYPE_FP32 dims: [ -1 ] }
]
"""
TEXTS_PROGRAM = """
def answer(request):
    texts, hint = [text.decode() for text in given(request, "TEXT")], given(request, "HINT")
    lengths = np.array([len(text) for text in texts], np.float32)
    yield "UPPER", np.array([text.upper().encode() for text in texts], object)
    yield "LENGTH", lengths if hint is None else lengths + hint
"""
# The mean of each channel of an image; the labels are the channels' names.
COLOURS = """
name: "colours" backend: "python"
input [ { name: "IMAGE" data_type: TYPE_FP32 dims: [ 3, 4, 4 ] } ]
output [ { name: "MEAN" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]
parameters { key: "IMAGE_MEAN" value { string_value: "0,0,0" } }
parameters { key: "IMAGE_STD" value { string_value: "1,1,1" } }
"""
COLOURS_PROGRAM = """
def answer(request):
    yield "MEAN", given(request, "IMAGE").mean(axis=(1, 2))
"""


def write(repository: Path, name: str, config: str, program: str) -> None:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(PROGRAM + program)
    (folder.parent / "config.pbtxt").write_text(config + "instance_group [ { kind: KIND_CPU } ]")
    (folder.parent / "labels.txt").write_text("red\ngreen\nblue\n")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of these two models."""
    repository = tmp_path_factory.mktemp("others")
    write(repository, "texts", TEXTS, TEXTS_PROGRAM)
    write(repository, "colours", COLOURS, COLOURS_PROGRAM)
    with served(Options(repository)) as running:
        yield running


@pytest.fixture(params=[(style, protocol) for style in STYLES for protocol in PROTOCOLS], ids="-".join)
def call(request: pytest.FixtureRequest, others: Server) -> Call:
    """Call a method of a fresh client, synchronous or asyncio, over either protocol."""
    style, protocol = request.param
    return lambda *arguments, **options: ask(style, connection_to(others, protocol), *arguments, **options)


def test_strings_are_utf_8_and_every_output_is_returned(call: Call) -> None:
    answer = call("infer", "texts", {"TEXT": np.array(["grün", "日本", ""], object)})
    assert [text.decode() for text in answer["UPPER"]] == ["GRÜN", "日本", ""]
    assert answer["LENGTH"].tolist() == [4, 2, 0]


def test_only_the_requested_outputs_are_returned(call: Call) -> None:
    texts = np.array([b"abc"])
    assert list(call("infer", "texts", {"TEXT": texts}, outputs=["LENGTH"])) == ["LENGTH"]
    with pytest.raises(InvalidInput, match="texts has no output 'SIZE'; it gives UPPER, LENGTH"):
        call("infer", "texts", {"TEXT": texts}, outputs=["SIZE"])


def test_an_optional_input_is_used_if_it_is_given(call: Call) -> None:
    inputs = {"TEXT": np.array([b"abc"]), "HINT": np.array([0.5], np.float32)}
    assert call("infer", "texts", inputs)["LENGTH"].tolist() == [3.5]


def test_an_output_of_any_length_can_be_classified(call: Call) -> None:
    ((first, second),) = call("classify", "texts", {"TEXT": np.array([b"a", b"abcd", b"ab"])}, top=2, output="LENGTH")
    # No labels: the name is the index.
    assert [(label.name, label.score) for label in (first, second)] == [("1", 4.0), ("2", 2.0)]
    assert first.probability == pytest.approx(np.exp(4) / (np.exp(4) + np.exp(2) + np.exp(1)))


def test_classifying_strings_is_refused_before_it_can_crash_the_server(call: Call) -> None:
    with pytest.raises(InvalidInput, match="texts output 'UPPER' contains texts, which are no scores; use infer"):
        call("classify", "texts", {"TEXT": np.array([b"a"])})
    assert call("is_ready")


def test_a_model_without_batches_takes_an_image_without_a_batch_dimension(call: Call) -> None:
    image = np.zeros((3, 4, 4), np.float32)
    image[2] = 1
    ((label,),) = call("classify", "colours", image)
    assert (label.name, label.index, label.score) == ("blue", 2, 1.0)
    with pytest.raises(InvalidInput, match=r"expected shape \[3, 4, 4\], got \[1, 3, 4, 4\]"):
        call("classify", "colours", image[None])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_files_are_classified_by_a_model_without_batches(others: Server, protocol: Protocol, tmp_path: Path) -> None:
    files = [tmp_path / f"{colour}.png" for colour in ("red", "green", "blue")]
    for file in files:
        Image.new("RGB", (9, 9), {"green": "lime"}.get(file.stem, file.stem)).save(file)
    with Client(connection_to(others, protocol)) as client:
        answers = list(classify_files(client, files, "colours", 1, batch_size=8))
    assert [answer.labels[0].name for answer in answers] == ["red", "green", "blue"]
