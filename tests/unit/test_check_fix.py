"""tools.check --fix, which fixes typos in the files, and --deep, which calls the models."""

import stat
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import Command
from tests.differential.examples import write_example
from tools import torchscript as writer
from tools.check.fixes import apply
from tools.check.rules import RULES, check, check_deep

TYPOS = """# A comment that stays.
name: "modle"   # So does this one.
backend: "python"
max_batchsize: 8
dynamic_batcher { }
input [
  { name: "A"  data_type: FP32  dim: [ 1 ] },\t# a tab
  { name: "B"  data_type: TYPE_IN64  dims: [ 1 ] }
]
"""
FIXED = """# A comment that stays.
name: "model"   # So does this one.
backend: "python"
max_batch_size: 8
dynamic_batching { }
input [
  { name: "A"  data_type: TYPE_FP32  dims: [ 1 ] },\t# a tab
  { name: "B"  data_type: TYPE_INT64  dims: [ 1 ] }
]
"""
CONFIG = """name: "model"
backend: "pytorch"
max_batch_size: 4
input { name: "INPUT__0" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 3 ] }
dynamic_batching { }
model_warmup {
  name: "one" batch_size: 1 inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: 3 zero_data: true } }
}
"""


class Baked(nn.Module):
    """What a careless trace produces: a batch of a fixed size."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.view(1, 3)


class Scaled(nn.Module):
    """Works at every batch size."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows * 2


class Wide(nn.Module):
    """Twice as many values as the config says."""

    def forward(self, rows: Tensor) -> Tensor:
        return torch.cat([rows, rows], 1)


class Lengths(nn.Module):
    """Takes no zeros, as lengths of packed sequences, and no negative numbers."""

    def forward(self, rows: Tensor) -> Tensor:
        if bool((rows <= 0).any()):
            raise ValueError("a length of 0")
        return rows


class Periods(nn.Module):
    """Takes a multiple of `period` values, and no fewer than twice as many."""

    def __init__(self, period: int) -> None:
        super().__init__()
        self.period = period

    def forward(self, wave: Tensor) -> Tensor:
        return wave.reshape(wave.size(0), -1, self.period)[:, 1]


def write(folder: Path, config: str) -> Path:
    """Write a model and return its config file."""
    (folder / "model" / "1").mkdir(parents=True)
    (folder / "model" / "1" / "model.py").write_text("")
    file = folder / "model" / "config.pbtxt"
    file.write_text(config)
    return file


def test_typos_are_fixed_and_nothing_else_in_the_file_changes(tmp_path: Path, command: Command) -> None:
    file = write(tmp_path, TYPOS)
    answer = command("tools.check", tmp_path, "--fix")
    assert file.read_text() == FIXED
    assert answer.returncode == 0
    assert f"fixed {file}:4: max_batchsize → max_batch_size\n" in answer.stderr
    assert len(answer.stderr.splitlines()) == 6
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(file.parent.glob(".*")) == []


def test_line_endings_stay_as_they_are(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    file.write_bytes(TYPOS.replace("\n", "\r\n").encode())
    apply(check(tmp_path))
    apply(check(tmp_path))
    assert file.read_bytes() == FIXED.replace("\n", "\r\n").encode()


def test_without_fix_no_file_changes(tmp_path: Path, command: Command) -> None:
    file = write(tmp_path, TYPOS)
    assert command("tools.check", tmp_path).returncode == 1
    assert file.read_text() == TYPOS


def test_a_step_without_a_version_gets_the_newest(tmp_path: Path) -> None:
    write_example(RULES["ensemble-type"], tmp_path)
    file = tmp_path / "model" / "config.pbtxt"
    right = file.read_text().replace("FP16", "FP32")
    file.write_text(right.replace("model_version: -1", ""))
    (fix,) = apply(check(tmp_path))
    assert fix.new == "model_version: -1 model_name"
    assert "step-version" not in {finding.rule for finding in check(tmp_path)}


@pytest.mark.parametrize("doubtful", ["version { }", "nonsense: 1", "input { data_type: TENSOR }", "name: model"])
def test_what_is_in_doubt_is_left_to_people(doubtful: str, tmp_path: Path) -> None:
    file = write(tmp_path, f'backend: "python"\n{doubtful}\n')
    before = file.read_text()
    assert any(finding.severity == "error" for finding in check(tmp_path))
    assert apply(check(tmp_path)) == [] and file.read_text() == before


@pytest.mark.parametrize(
    ("network", "rules", "found"),
    [
        (Scaled(), [], ""),
        (Baked(), ["torchscript-batch"], "forward fails on FP32 [2, 3]: "),
        (Wide(), ["torchscript-fails"], "OUTPUT__0: config.pbtxt says [1, 3] at batch 1, the model returns [1, 6]"),
        (Lengths(), [], ""),
    ],
    ids=["scaled", "baked", "wide", "lengths"],
)
def test_a_model_is_called_at_several_batch_sizes(
    network: nn.Module, rules: list[str], found: str, tmp_path: Path
) -> None:
    file = write(tmp_path, CONFIG)
    writer.save(network, file.parent / "1" / "model.pt")
    assert check(tmp_path) == []
    findings = list(check_deep(tmp_path, ()))
    assert [finding.rule for finding in findings] == rules
    assert all(finding.found.startswith(found) and finding.severity == "error" for finding in findings)


WARM = CONFIG.replace("dims: [ 3 ]", "dims: [ -1 ]").replace("dims: 3 ", "dims: 26 ")
OPEN = WARM.partition("model_warmup")[0]


@pytest.mark.parametrize(
    ("period", "config", "found"),
    [
        (16, OPEN, ""),
        (13, OPEN, "not called, because forward fails on FP32 [1, 8]: "),
        (13, WARM, ""),
    ],
)
def test_a_model_of_variable_dims_is_called_or_it_is_said_that_it_was_not(
    period: int, config: str, found: str, tmp_path: Path
) -> None:
    file = write(tmp_path, config)
    writer.save(Periods(period), file.parent / "1" / "model.pt")
    findings = list(check_deep(tmp_path, ()))
    assert [(finding.rule, finding.severity) for finding in findings] == [("torchscript-not-called", "info")] * bool(
        found
    )
    assert all(finding.found.startswith(found) for finding in findings)
