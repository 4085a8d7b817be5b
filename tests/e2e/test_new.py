"""`tools.new` end to end: torchvision's architectures and custom networks, loaded and called on the real server.

One server serves all of them, to save time; the command, which starts its own, runs once.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from clients.client import Client
from clients.command import options_from
from clients.connection import PROTOCOLS, Protocol
from tests.conftest import Command, connection_to, served
from tests.unit import networks
from tools.export import company
from tools.export.agreement import ProofError
from tools.new import __main__ as new
from tools.new import first_call
from tools.new.options import Options as NewOptions
from tools.new.plan import Plan, make_plan, publish, write_files
from tools.serve.tritonserver import Options, Server
from tools.train.training import cpu_threads

NETWORKS = Path(networks.__file__)
IMAGE = "FP32[3,64,64]"
# A few of each kind; `python -m tests.field` brings the others.
CLASSIFIERS = ("resnet18", "mobilenet_v3_small", "googlenet")
SEGMENTERS = ("lraspp_mobilenet_v3_large",)
DETECTOR = "ssdlite320_mobilenet_v3_large"
OWN = {
    "Named": "item:FP32[6],user:INT64[]",
    "Gate": "FP32[3],BOOL[3]",
    "FromDict": "right:FP32[2],left:FP32[2]",
    "Texts": "STRING[-1]",
    "Recurrent": "FP32[4,3]",
    "FromOne": "INT64[2]=1..4",
    "Optionals": "input_ids:INT64[-1]=0..8,attention_mask:INT64[-1]",
    "Convolution": "FP32[3,-1,-1]",
}


@dataclass(frozen=True)
class Brought:
    """Plans by model, and the server that serves them all."""

    plans: dict[str, Plan]
    repository: Path
    server: Server


def flags() -> Iterator[list[str]]:
    """The command's arguments for each model; small images and batches, so that the proofs take seconds."""
    small = ["--example-inputs", IMAGE, "--max-batch-size", "2", "--arguments", '{"num_classes": 5}']
    labels = ["--labels", str(NETWORKS.with_name("five_labels.txt"))]
    for name in CLASSIFIERS:
        yield [name, "--torchvision", name, *small, *(labels if name == "resnet18" else [])]
    for name in SEGMENTERS:
        yield [name, "--torchvision", name, *small]
    yield [DETECTOR, "--torchvision", DETECTOR, "--example-inputs", IMAGE, "--arguments", '{"num_classes": 5}']
    for name, inputs in OWN.items():
        yield [name, "--module", f"{NETWORKS}:{name}", "--example-inputs", inputs]


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brought]:
    """All models, tried, proven and served."""
    repository = tmp_path_factory.mktemp("brought")
    plans = {}
    with cpu_threads(1), pytest.MonkeyPatch.context() as patch:
        # Of the company of rows, which can take ten seconds with a large network: tests/unit/test_company.py.
        patch.setattr(company, "_SECONDS", 0.5)
        for line in flags():
            arguments = new._parser().parse_args([*line, "--repository", str(repository)])
            plans[line[0]] = make_plan(options_from(arguments, NewOptions), new._recipe(arguments))
            write_files(plans[line[0]], repository)
            publish(plans[line[0]], repository)
    with served(Options(repository)) as server:
        yield Brought(plans, repository, server)


@pytest.mark.parametrize("model", [*CLASSIFIERS, *SEGMENTERS, DETECTOR, *OWN])
def test_the_server_answers_as_the_network_does(model: str, brought: Brought) -> None:
    with cpu_threads(1):
        assert first_call.call(brought.server, brought.plans[model], brought.repository) < 1e-3


@pytest.mark.parametrize("model", [*CLASSIFIERS, *SEGMENTERS])
def test_random_weights_answer_differently_to_different_images(model: str, brought: Brought) -> None:
    assert not [note for note in brought.plans[model].notes if "is the same for every input" in note]


def test_a_different_answer_is_detected(brought: Brought) -> None:
    other = replace(brought.plans["Named"], network=networks.Named())
    with pytest.raises(ProofError, match="embedding__0: the server's answer differs from the network's by"):
        first_call.call(brought.server, other, brought.repository)


def test_a_detector_finds_boxes_within_the_image(brought: Brought) -> None:
    contract = brought.plans[DETECTOR].design
    assert [(one.name, one.dims) for one in contract.outputs] == [
        ("boxes__0", (-1, 4)),
        ("labels__1", (-1,)),
        ("scores__2", (-1,)),
    ]
    image = np.random.default_rng(0).standard_normal((3, 64, 64)).astype(np.float32)
    with Client(connection_to(brought.server, "grpc")) as client:
        found = client.infer(DETECTOR, image)
    count = len(found["boxes__0"])
    assert 0 < count == len(found["labels__1"]) == len(found["scores__2"])
    assert found["boxes__0"].min() >= 0 and found["boxes__0"].max() <= 64
    assert (np.diff(found["scores__2"]) <= 0).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_labels_come_with_a_classifier_s_answer(protocol: Protocol, brought: Brought) -> None:
    images = np.zeros((2, 3, 64, 64), np.float32)
    with Client(connection_to(brought.server, protocol)) as client:
        for row in client.classify("resnet18", images, top=5):
            assert sorted(label.name for label in row) == ["bird", "boat", "car", "cat", "dog"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_size_of_a_variable_dimension_is_served(protocol: Protocol, brought: Brought) -> None:
    with Client(connection_to(brought.server, protocol)) as client:
        for height, width in ((9, 31), (64, 5)):
            image = np.ones((1, 3, height, width), np.float32)
            answer = client.infer("Convolution", image)["OUTPUT__0"]
            assert answer.shape == (1, 2, (height - 1) // 2, (width - 1) // 2)
        texts = client.infer("Texts", {"texts": np.array(["grün", "a", ""], object)})
        assert [text.decode() for text in texts["OUTPUT__0"]] == ["grün!", "a!", "!"]
        assert texts["OUTPUT__1"][1:].tolist() == [1, 0]


def test_one_command_creates_a_model_with_two_inputs_and_two_outputs(command: Command, tmp_path: Path) -> None:
    for folder in ("models", "recipes"):
        (tmp_path / folder).mkdir()
    places = ["--repository", tmp_path / "models", "--recipes", tmp_path / "recipes"]
    source = ["--module", f"{NETWORKS}:Towers", "--example-inputs", "user:INT64[1],item:FP32[6]"]
    ran = command("tools.new", "towers", *source, *places)
    assert ran.returncode == 0, ran.stderr
    made = json.loads(ran.stdout.splitlines()[-1])
    assert made["served_max_abs_difference"] < 1e-5 and made["max_batch_size"] == 64
    assert "note: no weights were given" in ran.stderr and "towers: loading it" in ran.stderr
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        "recipes/towers.py",
        "models/towers/config.pbtxt",
        "models/towers/configs/cpu.pbtxt",
        "models/towers/1/model.pt",
        "models/towers/1/manifest.json",
        "models/towers/1/golden.npz",
    }


def test_a_model_that_the_server_does_not_load_is_not_published(tmp_path: Path, command: Command) -> None:
    # Triton warms up with zeros.
    (tmp_path / "picky.py").write_text(
        "import torch\n\n\nclass Picky(torch.nn.Module):\n    def forward(self, x: torch.Tensor) -> torch.Tensor:\n"
        "        if bool((x == 0).all()):\n            raise ValueError('nothing but zeros')\n        return x\n"
    )
    (tmp_path / "models").mkdir()
    source = ["--module", tmp_path / "picky.py:Picky", "--example-inputs", "FP32[3]"]
    ran = command("tools.new", "picky", *source, "--repository", tmp_path / "models", "--json")
    assert ran.returncode == 1 and ran.stdout == ""
    assert "error: picky: the server does not load picky: " in ran.stderr
    # Its log says why as a rule; at times tritonserver 2.51 dies of a failed warm-up before it has said anything.
    assert not list((tmp_path / "models").iterdir())
