"""What only a GPU can show: the native backend on cuda:0, its answers, batches, instances and cost.

`make test-gpu` runs it. DEVICE=cpu rehearses it on a host without a GPU.
"""

import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from clients.client import Client
from clients.connection import Connection
from loadtest.analysis.measurement import measure, setting_of
from loadtest.load import closed_loop
from loadtest.options import GeneratorOptions
from tests.gpu.gpu_models import images, networks, write
from tools.repository import ROOT
from tools.serve.hardware import why_no_gpu
from tools.serve.tritonserver import Options, Server
from tools.torchscript import quiet, trace

DEVICE = os.environ.get("DEVICE", "cuda:0")
FIGURES = ROOT / "build" / "gpu.json"
# Relative to the largest logit. Kernels differ between batch sizes, and TF32 is off in both.
TOLERANCES = {"resnet18_fp16": 2e-2, "resnet18_bf16": 1e-1}
NAMES = ("mnist_mlp", "cifar10_cnn", "resnet18_fp32", "resnet18_fp16", "resnet18_bf16")
pytestmark = pytest.mark.skipif(DEVICE != "cpu" and why_no_gpu() is not None, reason=str(why_no_gpu()))


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the native backend on the device."""
    repository = write(tmp_path_factory.mktemp("gpu") / "models")
    hardware = "cpu" if DEVICE == "cpu" else "gpu"
    if DEVICE == "cpu":
        _derive_cpu_configs(repository)
    with Server(Options(repository, hardware=hardware, backend="native")) as running:
        yield running


def _derive_cpu_configs(repository: Path) -> None:
    for config in repository.glob("*/config.pbtxt"):
        config.write_text(config.read_text().replace("KIND_GPU", "KIND_CPU"))


@pytest.fixture
def client(triton: Server) -> Iterator[Client]:
    """A client over gRPC; after the test the server must still be alive."""
    with Client(Connection("grpc", triton.grpc)) as opened:
        yield opened
    triton.check()


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, dict[str, float]]]:
    """Figures that the tests fill in; written at the end."""
    found: dict[str, dict[str, float]] = {}
    yield found
    FIGURES.parent.mkdir(exist_ok=True)
    device = torch.cuda.get_device_name(0) if DEVICE != "cpu" else "cpu"
    FIGURES.write_text(json.dumps({"device": device, "torch": torch.__version__, **found}, indent=1))
    print(FIGURES.read_text())


def _logits(answer: object) -> torch.Tensor:
    logits = answer[0] if isinstance(answer, tuple) else answer
    assert isinstance(logits, torch.Tensor)
    return logits


@pytest.mark.parametrize("count", [1, 3, 32])
@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_the_eager_network_on_the_device(client: Client, name: str, count: int) -> None:
    sent = images(name, count)
    with torch.inference_mode():
        expected = _logits(networks()[name].to(DEVICE)(sent.to(DEVICE))).cpu()
    served = torch.from_numpy(client.infer(name, sent.numpy())["OUTPUT__0"].copy())
    limit = TOLERANCES.get(name, 1e-4) * float(expected.abs().max())
    torch.testing.assert_close(served, expected, rtol=0, atol=limit)


@pytest.mark.skipif(DEVICE == "cpu", reason="memory of a GPU")
def test_weights_are_on_the_device(triton: Server) -> None:
    free, total = torch.cuda.mem_get_info(0)
    weights = sum(p.numel() * 4 for network in networks().values() for p in network.parameters())
    assert total - free > weights
    assert triton.backend.name == "native"


@pytest.mark.parametrize("name", ["mnist_mlp", "cifar10_cnn"])
def test_requests_that_come_together_are_batched(client: Client, triton: Server, name: str) -> None:
    def ask(_: int) -> None:
        with Client(Connection("grpc", triton.grpc)) as own:
            for _ in range(20):
                own.infer(name, images(name, 1).numpy())

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(16)))
    (statistics,) = client.statistics(name)
    assert int(statistics["execution_count"]) < int(statistics["inference_count"])
    assert max(int(batch["batch_size"]) for batch in statistics["batch_stats"]) > 1


@pytest.mark.parametrize("name", ["cifar10_cnn_twice", "resnet18_fp16_twice"])
def test_two_instances_on_one_device_both_answer(client: Client, triton: Server, name: str) -> None:
    (group,) = client.config(name)["instance_group"]
    assert group["count"] == 2
    with ThreadPoolExecutor(8) as pool:
        alone = client.infer(name, images(name, 1).numpy())["OUTPUT__0"]

        def ask(_: int) -> bool:
            with Client(Connection("grpc", triton.grpc)) as own:
                return bool(abs(own.infer(name, images(name, 1).numpy())["OUTPUT__0"] - alone).max() < 0.1)

        assert all(pool.map(ask, range(64)))


@pytest.mark.parametrize("name", [*NAMES, "cifar10_cnn_twice", "resnet18_fp16_twice"])
def test_throughput_in_batches_beside_the_network_in_process(
    client: Client, triton: Server, name: str, figures: dict[str, dict[str, float]]
) -> None:
    batch, seconds = 32 if name.startswith("resnet18") else 64, 3.0
    setting = setting_of(client, name, GeneratorOptions(client_batch=batch, warm_up_s=0.5, processes=1))
    run = measure(client, setting, closed_loop(8, seconds), [])
    assert run.figures.errors == 0
    served, direct = batch * run.figures.rps, _in_process(name.removesuffix("_twice"), batch, seconds / 2)
    figures[name] = {"batch": batch, "served_per_s": round(served), "in_process_per_s": round(direct)}
    figures[name]["served_by_in_process"] = round(served / direct, 3)


def _in_process(name: str, batch: int, seconds: float) -> float:
    """Images per second of the traced network, copies to and from the device included."""
    traced, _ = trace(networks()[name].to(DEVICE), [images(name, 2).to(DEVICE)])
    with quiet():
        network = torch.jit.freeze(traced)
    sent, count = images(name, batch), 0
    with torch.inference_mode():
        for _ in range(5):
            _logits(network(sent.to(DEVICE))).cpu()
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            _logits(network(sent.to(DEVICE))).cpu()
            count += batch
        return count / (time.perf_counter() - began)
