"""Compression on real networks: sizes, answers, and TorchScript files that load in a clean process."""

import copy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from tools import torchscript
from tools.compression import distillation, pruning, quantization
from tools.export.preparation import copied
from tools.recipes import Change
from tools.recipes.cifar10_cnn import SimpleCNN
from tools.recipes.mnist_mlp import SimpleNN
from tools.recipes.resnet18 import resnet18

SHAPES = {"mlp": (784,), "cnn": (3, 32, 32), "resnet18": (3, 32, 32)}
NETWORKS: dict[str, Callable[[], nn.Module]] = {"mlp": SimpleNN, "cnn": SimpleCNN, "resnet18": resnet18}
CHANGES: dict[str, Change] = {
    "dynamic_int8": quantization.dynamic_int8,
    "static_int8": quantization.static_int8,
    "bf16": quantization.cast(torch.bfloat16),
    "fp16": quantization.cast(torch.float16),
    "pruned": pruning.structured(0.5),
}


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def samples_of(name: str, count: int = 32) -> Tensor:
    return torch.randn(count, *SHAPES[name], generator=torch.Generator().manual_seed(1))


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", SHAPES)
def test_a_changed_network_is_written_read_and_answers_the_same(name: str, change: str, tmp_path: Path) -> None:
    samples = samples_of(name)
    changed = CHANGES[change](copy.deepcopy(network_of(name)), samples).eval()
    torchscript.save(changed, tmp_path / "model.pt")
    (expected,) = torchscript.outputs(changed, samples[:3])
    (found,) = torchscript.outputs(torchscript.load(tmp_path / "model.pt"), samples[:3])
    assert found.dtype == torch.float32 and found.shape == (3, 10)
    assert torch.allclose(expected, found, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("change", ["dynamic_int8", "static_int8", "bf16", "fp16"])
@pytest.mark.parametrize("name", SHAPES)
def test_lower_precision_stays_near_the_original(name: str, change: str) -> None:
    original, samples = network_of(name), samples_of(name)
    changed = CHANGES[change](copy.deepcopy(original), samples)
    (expected,), (found,) = torchscript.outputs(original, samples), torchscript.outputs(changed, samples)
    spread = float(expected.std())
    worst = float((expected - found).abs().max())
    assert 0 < worst < 0.5 * spread


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_int8_takes_about_a_quarter_of_the_bytes(name: str, tmp_path: Path) -> None:
    network, samples = network_of(name), samples_of(name)
    torchscript.save(copy.deepcopy(network), tmp_path / "before.pt")
    torchscript.save(quantization.static_int8(network, samples), tmp_path / "after.pt")
    before, after = ((tmp_path / file).stat().st_size for file in ("before.pt", "after.pt"))
    assert after < 0.4 * before


def test_an_int8_file_loads_in_a_process_that_knows_nothing_of_how_it_was_made(tmp_path: Path) -> None:
    torchscript.save(quantization.static_int8(network_of("cnn"), samples_of("cnn")), tmp_path / "model.pt")
    program = f"import torch; print(torch.jit.load({str(tmp_path / 'model.pt')!r})(torch.zeros(2, 3, 32, 32)).shape)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout.strip() == "torch.Size([2, 10])", result.stderr


@pytest.mark.parametrize("name", SHAPES)
def test_structured_pruning_removes_weights_and_keeps_the_outputs(name: str) -> None:
    network = network_of(name)
    before = parameters(network)
    pruned = pruning.structured(0.5)(network, samples_of(name))
    # Half of a layer's inputs and of its outputs leave a quarter of its weights; the first layer keeps its inputs.
    assert 0.2 * before < parameters(pruned) < 0.5 * before
    assert pruned(samples_of(name)).shape == (32, 10)


def test_unstructured_pruning_holds_its_zeros_through_training() -> None:
    network, samples = network_of("cnn"), samples_of("cnn")
    pruned = pruning.unstructured(0.8)(network, samples)
    optimizer = torch.optim.SGD(pruned.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        nn.functional.cross_entropy(pruned(samples), torch.zeros(32, dtype=torch.int64)).backward()
        optimizer.step()
    done = pruning.made_permanent(pruned, samples)
    assert pruning.sparsity(done) == pytest.approx(0.8, abs=0.001)
    assert parameters(done) == parameters(network_of("cnn"))


def test_quantization_aware_training_trains_and_becomes_int8(tmp_path: Path) -> None:
    samples, labels = samples_of("cnn"), torch.arange(32) % 10
    prepared = quantization.fake_int8(network_of("cnn"), samples)
    optimizer = torch.optim.Adam(prepared.parameters(), lr=1e-2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = []
        for _ in range(6):
            loss = nn.functional.cross_entropy(prepared(samples), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss))
    assert losses[-1] < losses[0]
    torchscript.save(quantization.trained_int8(prepared, samples), tmp_path / "model.pt")
    module = torchscript.load(tmp_path / "model.pt")
    assert "quantized::conv2d_relu" in str(module.inlined_graph)


def test_distillation_pulls_towards_the_teacher_and_the_label() -> None:
    labels = torch.tensor([0])
    teacher = torch.tensor([[5.0, 4.0, -5.0]])
    agreeing = distillation.distilled(torch.tensor([[5.0, 4.0, -5.0]]), labels, teacher)
    only_label = distillation.distilled(torch.tensor([[5.0, -5.0, 4.0]]), labels, teacher)
    neither = distillation.distilled(torch.tensor([[-5.0, 4.0, 5.0]]), labels, teacher)
    assert agreeing < only_label < neither


def test_a_network_that_was_just_pruned_and_trained_is_copied() -> None:
    network, x = nn.Linear(4, 3), torch.ones(2, 4)
    prune.l1_unstructured(network, "weight", 0.5)
    network(x).sum().backward()
    assert torch.equal(copied(network)(x), network(x))
