"""Where tensors of TorchScript lie, told from the graph: without a GPU, and on one where there is one."""

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.differential.examples import GOOD
from tools import torchscript
from tools.check.rules import check_deep
from tools.export.proof import ProofError, prove_device
from tools.placement import misplaced


class ChosenAtStart(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 3)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.to(self.device), self.weight, self.bias)  # here


class Positions(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.size(1))  # here


class Following(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.size(1), device=x.device)  # here


class Offset(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + (torch.arange(x.size(1), device=x.device) + 1)


class Sent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.arange(x.size(1)).to(x.device)  # here


class Padded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.zeros(x.size(0), 1)], 1)  # here


class Summed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(x.size(0))  # here
        for column in range(x.size(1)):
            total = total + x[:, column]
        return total


class Packed(nn.LSTM):
    """Lengths of sequences must lie on the CPU."""

    def __init__(self) -> None:
        super().__init__(3, 3, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        lengths = x[:, 0].long().clamp(1, 1).cpu()
        return nn.utils.rnn.pack_padded_sequence(x[:, None], lengths, True, False).data  # here


class Masked(nn.Module):
    """As transformers make their masks: a number that tracing turns into a tensor is added to new positions."""

    def forward(self, x: Tensor) -> Tensor:
        positions = torch.arange(x.size(1), device=x.device) + x.size(0) // 9  # here
        return x * (positions < x[:, :1])


class Fine(nn.Module):
    """A scalar, constants, an index, new tensors like others, a result on the CPU."""

    def forward(self, x: Tensor) -> Tensor:
        y = x[:, torch.arange(x.size(1))] * torch.tensor(0.5) + torch.zeros_like(x) + x.new_ones(x.size(0), 1)
        return (y + torch.tensor([1.0, 2.0, 3.0], device=x.device)).cpu()  # here


NETWORKS = (ChosenAtStart, Positions, Following, Sent, Padded, Summed, Packed, Masked, Fine)
WRONG = {
    "scripted": {"ChosenAtStart", "Positions", "Padded", "Summed"},
    "traced": {"ChosenAtStart", "Positions", "Following", "Sent", "Padded", "Summed", "Packed", "Masked", "Fine"},
}


def brought(network: nn.Module, method: str, file: Path) -> torch.jit.ScriptModule:
    """A file as users bring it: not frozen."""
    ones = torch.ones(2, 3)
    module = torchscript.trace(network, [ones])[0] if method == "traced" else torchscript.script(network)
    with torchscript.quiet():
        module.save(str(file))
    return torchscript.load(file)


def line_of(network: type[nn.Module]) -> str:
    """The place of the line that creates or moves a tensor."""
    lines, first = inspect.getsourcelines(network.forward)
    (at,) = [at for at, line in enumerate(lines) if line.endswith("# here\n")]
    return f"{__file__}:{first + at}"


@pytest.mark.parametrize("method", ["scripted", "traced"])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_line_that_puts_a_tensor_elsewhere_is_named_and_the_exported_file_follows_its_input(
    network: type[nn.Module], method: str, tmp_path: Path
) -> None:
    file = brought(network(), method, tmp_path / "brought.pt")
    lines = [found.line for found in misplaced(file, on_gpu=True, on_cpu=False)]
    assert lines == [line_of(network)] * (network.__name__ in WRONG[method])
    assert misplaced(file, on_gpu=False, on_cpu=True) == []
    torchscript.save(file, tmp_path / "exported.pt")
    exported = torchscript.load(tmp_path / "exported.pt")
    assert misplaced(exported, on_gpu=True, on_cpu=True) == []
    assert torch.equal(exported(torch.ones(2, 3)), file(torch.ones(2, 3)))
    if torch.cuda.is_available():
        on_gpu = torch.jit.load(str(tmp_path / "exported.pt"), map_location="cuda")
        assert on_gpu(torch.ones(2, 3).cuda()).shape == file(torch.ones(2, 3)).shape
        if lines:
            with pytest.raises(RuntimeError):
                torch.jit.load(str(tmp_path / "brought.pt"), map_location="cuda")(torch.ones(2, 3).cuda())


def test_a_trace_follows_its_input_as_soon_as_it_is_made(tmp_path: Path) -> None:
    torchscript.save(torchscript.trace(Offset(), [torch.ones(2, 3)])[0], tmp_path / "exported.pt")
    assert misplaced(torchscript.load(tmp_path / "exported.pt"), on_gpu=True, on_cpu=True) == []


class ToCpu(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.cpu(), self.weight)  # here


class ToGpu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.to("cuda:0") + 1  # here


CPU_GROUP = "instance_group { kind: KIND_CPU }\n"


@pytest.mark.parametrize(
    ("network", "groups", "what"), [(ToCpu, "", "on the CPU"), (ToGpu, CPU_GROUP, "on the GPU")], ids=["cpu", "gpu"]
)
def test_what_cannot_follow_its_input_is_refused_by_export_and_by_the_checker(
    network: type[nn.Module], groups: str, what: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model" / "1"
    folder.mkdir(parents=True)
    (tmp_path / "model" / "config.pbtxt").write_text(GOOD.replace("dims: [ 4 ]", "dims: [ 3 ]") + groups)
    torchscript.save(network(3, 2) if network is ToCpu else network(), folder / "model.pt")
    with pytest.raises(ProofError, match=f"{line_of(network)}: a tensor is put {what}.*device=x.device"):
        prove_device(torchscript.load(folder / "model.pt"), "model", tmp_path)
    found = list(check_deep(tmp_path, ()))
    assert found[0].rule == "torchscript-device" and found[0].found.startswith(line_of(network))
