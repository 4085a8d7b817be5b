"""TorchScript files as tools.check reads them without torch, compared with torch."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from google.protobuf import text_format
from torch import Tensor, nn
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.differential.examples import FORWARD, torchscript
from tools import torchscript as writer
from tools.backends.pytorch.binding import Argument, BindingError, bind_inputs, bind_outputs
from tools.check import pytorch
from tools.check.archive import ArchiveError, read_archive
from tools.check.finding import Rule
from tools.check.rules import check
from tools.repository import ROOT, as_triton_json

BACKEND = ROOT / "tools" / "backends" / "pytorch"

IO = """input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] }
instance_group { kind: KIND_CPU }
"""
BASE = 'name: "model"\nbackend: "pytorch"\nmax_batch_size: 0\n'


class Several(nn.Module):
    """Two inputs, one of them optional, and two outputs, with a submodule."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)

    def forward(self, user: Tensor, item: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scores = self.inner(user)
        return scores, scores if item is None else item


class ByName(nn.Module):
    """A dictionary in, a dictionary out."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features


class Texts(nn.Module):
    """Strings and a number in, strings out."""

    def forward(self, texts: list[str], times: int) -> list[str]:
        return texts * times


class Named(NamedTuple):
    score: Tensor
    names: list[str]


class Fields(nn.Module):
    """A NamedTuple out."""

    def forward(self, x: Tensor) -> Named:
        return Named(x, ["a"])


class Nothing(nn.Module):
    """Nothing out."""

    def forward(self, x: Tensor) -> None:
        return None


def model(folder: Path, content: bytes, config: str) -> Path:
    """Write a repository of one model."""
    version = folder / "model" / "1"
    version.mkdir(parents=True)
    (version / "model.pt").write_bytes(content)
    (folder / "model" / "config.pbtxt").write_text(BASE + config)
    return folder


def broken_rules(folder: Path) -> list[tuple[str, str]]:
    """Rules and severities of all findings except that these models have no warm-up."""
    return [(finding.rule, finding.severity) for finding in check(folder) if finding.rule != "warmup-missing"]


@pytest.mark.parametrize(
    ("module", "results"),
    [
        (Several(), ("Tensor", "Tensor")),
        (ByName(), ("Dict[str, Tensor]",)),
        (Texts(), ("List[str]",)),
        (Fields(), ("Tensor", "List[str]")),
        (Nothing(), ("NoneType",)),
        (nn.Linear(4, 2), ("Tensor",)),
    ],
)
def test_forward_is_read_as_torch_reads_it(module: nn.Module, results: tuple[str, ...], tmp_path: Path) -> None:
    writer.save(module, tmp_path / "model.pt")
    forward: Any = writer.load(tmp_path / "model.pt").forward
    declared = [(argument.name, argument.type.kind()) for argument in forward.schema.arguments]
    expected = [(name, kind) for name, kind in declared if kind != "ClassType"]
    archive = read_archive(tmp_path / "model.pt")
    assert [(argument.name, argument.kind) for argument in archive.arguments] == expected
    assert archive.results == results


def test_operators_are_found_wherever_they_are_called(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that all this is deprecated.
        quantized = torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, torch.qint8)
        writer.save(quantized, tmp_path / "model.pt")
    assert {"quantized.linear_dynamic", "relu"} <= read_archive(tmp_path / "model.pt").operators


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (nn.Linear(4, 2).state_dict(), "a state dict"),
        (nn.Linear(4, 2), "a pickled object with torch.nn.modules.linear.Linear"),
        (None, "a Git LFS pointer"),
    ],
)
def test_a_file_that_is_not_torchscript_is_told_what_it_appears_to_be(what: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "model.pt"
    if what is None:
        file.write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        torch.save(what, file)
    with pytest.raises(ArchiveError, match=message):
        read_archive(file)
    assert ("torchscript-file", "error") in broken_rules(model(tmp_path / "repository", file.read_bytes(), IO))


def test_a_file_that_matches_its_config_has_no_findings(tmp_path: Path) -> None:
    assert broken_rules(model(tmp_path, torchscript(), IO)) == []


@pytest.mark.parametrize(
    ("forward", "config", "rules"),
    [
        ("INPUT__0: Tensor,\n    more: Tensor) -> Tensor", IO, [("torchscript-inputs", "error")]),
        ("x: Optional[Tensor]) -> Tensor", IO, [("torchscript-inputs", "error")]),
        ("x: Dict[str, Tensor]) -> Tensor", IO.replace("INPUT__0", "anything"), []),
        ("INPUT__1: Tensor) -> Tensor", IO.replace("INPUT__0", "INPUT__1"), []),
        ("x: Tensor) -> Tensor", IO.replace("OUTPUT__0", "OUTPUT__1"), [("torchscript-outputs", "error")]),
        ("x: Tensor) -> Tuple[Tensor, Tensor]", IO.replace("OUTPUT__0", "OUTPUT__1"), []),
    ],
)
def test_inputs_and_outputs_match_forward_as_the_server_binds_them(
    forward: str, config: str, rules: list[tuple[str, str]], tmp_path: Path
) -> None:
    code = FORWARD.replace("INPUT__0: Tensor) -> Tensor", forward)
    assert broken_rules(model(tmp_path, torchscript(code), config)) == rules


@pytest.mark.parametrize(("kind", "rules"), [("KIND_CPU", []), ("KIND_GPU", [("quantized-on-gpu", "warning")])])
def test_quantized_operators_stay_on_the_cpu(kind: str, rules: list[tuple[str, str]], tmp_path: Path) -> None:
    code = FORWARD.replace("return INPUT__0", "return ops.quantized.linear_dynamic(INPUT__0)")
    assert broken_rules(model(tmp_path, torchscript(code), IO.replace("KIND_CPU", kind))) == rules


def test_operators_of_other_libraries_are_named(tmp_path: Path) -> None:
    code = FORWARD.replace("return INPUT__0", "return ops.torchvision.nms(INPUT__0, INPUT__0, 0.5)")
    assert broken_rules(model(tmp_path, torchscript(code), IO)) == [("torchscript-operator", "warning")]


@pytest.mark.parametrize("moved", ['torch.to(INPUT__0, torch.device("cuda:0"))', "torch.cuda(INPUT__0)"])
@pytest.mark.parametrize(("kind", "rules"), [("KIND_CPU", [("cuda-on-cpu", "warning")]), ("KIND_GPU", [])])
def test_code_that_moves_tensors_to_a_gpu_stays_there(
    moved: str, kind: str, rules: list[tuple[str, str]], tmp_path: Path
) -> None:
    code = FORWARD.replace("return INPUT__0", f"return {moved}")
    assert broken_rules(model(tmp_path, torchscript(code), IO.replace("KIND_CPU", kind))) == rules


def test_the_format_of_a_later_torch_is_refused(tmp_path: Path) -> None:
    assert broken_rules(model(tmp_path, torchscript(version="11"), IO)) == [("torchscript-format", "error")]


@pytest.mark.parametrize(
    "rule", [rule for rule in pytorch.RULES if rule.refused_by == "backend"], ids=lambda rule: rule.id
)
def test_the_backends_own_code_refuses_what_the_rules_say_that_it_refuses(rule: Rule) -> None:
    config = as_triton_json(text_format.Parse(rule.example, ModelConfig()))
    if "parameters" in config:
        # A test with a real server covers the values; here, the backend reads these names.
        source = "".join(file.read_text() for file in BACKEND.glob("*.py"))
        assert all(f'config, "{name}"' in source for name in config["parameters"])
        return
    with pytest.raises(BindingError):
        bind_outputs(config)
        bind_inputs(config, [Argument("INPUT__0", "TensorType")])


STATEFUL = """input { name: "x__0" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y__0" data_type: TYPE_FP32 dims: [ 1 ] }
instance_group { kind: KIND_CPU }
sequence_batching { state { input_name: "sum__1" output_name: "sum__1" data_type: TYPE_FP32 dims: [ 1 ] } }
"""


@pytest.mark.parametrize(
    ("old", "new", "rules"),
    [
        ("", "", []),
        ('input_name: "sum__1"', 'input_name: "sum"', ["pytorch-control-name"]),
        ('output_name: "sum__1"', 'output_name: "sum"', ["pytorch-control-name"]),
        ('input_name: "sum__1"', 'input_name: "sum__2"', ["torchscript-inputs"]),
        ('output_name: "sum__1"', 'output_name: "sum__2"', ["torchscript-outputs"]),
        ("TYPE_FP32 dims: [ 1 ] } }", "TYPE_UINT64 dims: [ 1 ] } }", ["pytorch-type"]),
        ("sequence_batching", "# sequence_batching", ["torchscript-inputs"]),
    ],
)
def test_states_of_sequences_are_arguments_and_results_too(
    old: str, new: str, rules: list[str], tmp_path: Path
) -> None:
    code = FORWARD.replace("INPUT__0: Tensor) -> Tensor", "x: Tensor,\n    sum: Tensor) -> Tuple[Tensor, Tensor]")
    found = broken_rules(model(tmp_path, torchscript(code), STATEFUL.replace(old, new)))
    assert [rule for rule, severity in found if severity == "error"] == rules
