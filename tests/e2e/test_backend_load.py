"""Models that must not load: the server says why, and its other models keep serving."""

import re
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from tests.compiler import BACKENDS, NEEDS_NATIVE
from tests.conftest import served
from tests.e2e.backend_models import BATCHES, GOOD, Model, OneOutput, Weighted, inputs, outputs, parameter, save, write
from tests.waiting import soon
from tools.serve.server_error import ServerError
from tools.serve.tritonserver import Options, Server

ONE = BATCHES + inputs("INPUT__0") + outputs("OUTPUT__0")
BAD = {
    "no_file": Model(None, ONE),
    "cut_short": Model(OneOutput(), ONE),
    "no_torchscript": Model(None, ONE),
    "one_input_too_many": Model(OneOutput(), BATCHES + inputs("INPUT__0", "INPUT__1") + outputs("OUTPUT__0")),
    "maybe": Model(OneOutput(), ONE + parameter("INFERENCE_MODE", "maybe")),
    "no_threads": Model(OneOutput(), ONE + parameter("INTRA_OP_THREAD_COUNT", "0")),
}
REASONS = {
    "no_file": r"unable to find '.*/no_file/1/model\.pt' for model instance 'no_file'",
    "cut_short": r"failed to load model 'cut_short' \(.*/model\.pt\): .*(zip|archive)",
    "no_torchscript": r"failed to load model 'no_torchscript' \(.*/model\.pt\): ",
    "one_input_too_many": r"'one_input_too_many', configuration expects 2 inputs, model provides 1",
    "maybe": r"parameter INFERENCE_MODE is 'maybe'; expected one of true, on, 1, false, off, 0",
    "no_threads": r"parameter INTRA_OP_THREAD_COUNT is '0'; expected a whole number of at least 1",
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one good model and all bad ones."""
    repository = write(tmp_path_factory.mktemp("models"), {"good": GOOD["by_index"], **BAD})
    file = repository / "cut_short" / "1" / "model.pt"
    file.write_bytes(file.read_bytes()[:-200])
    (repository / "no_torchscript" / "1" / "model.pt").write_bytes(b"<html>404 Not Found</html>")
    return repository


@pytest.fixture(scope="module", params=BACKENDS)
def triton(request: pytest.FixtureRequest, models: Path) -> Iterator[Server]:
    """A server that loads on request, with the good model."""
    flags = ("--model-control-mode=explicit", "--load-model=good")
    with served(Options(models, backend=request.param, flags=flags)) as running:
        yield running


@pytest.fixture
def connected(triton: Server) -> Iterator[grpc.InferenceServerClient]:
    """A plain client; after the test the good model must still answer."""
    with grpc.InferenceServerClient(triton.grpc) as client:
        yield client
        triton.check()
        assert answers(client, "good")


def answers(client: grpc.InferenceServerClient, model: str) -> bool:
    """Whether a copy of "by_index" gives the right answer."""
    tensors = [grpc.InferInput(name, [1, 2], "FP32") for name in ("A__1", "B__0")]
    for tensor in tensors:
        tensor.set_data_from_numpy(np.ones((1, 2), np.float32))
    return bool((client.infer(model, tensors).as_numpy("OUTPUT__1") == 0).all())


@pytest.mark.parametrize("model", BAD)
def test_a_model_that_cannot_load_says_why(model: str, connected: grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match=f"(?s){REASONS[model]}"):
        connected.load_model(model)
    assert not connected.is_model_ready(model)


@NEEDS_NATIVE
def test_a_warm_up_that_fails_does_not_end_the_server(tmp_path: Path) -> None:
    # In Triton's own warm-up it does where the thread that loads overtakes the one that executes; see instance.h.
    data = 'inputs { key: "INPUT__0" value { data_type: TYPE_FP32 dims: [ 2 ] zero_data: true } }'
    two = BATCHES + inputs("INPUT__0") + outputs("OUTPUT__0", "OUTPUT__1")
    repository = write(tmp_path, {"bad": Model(OneOutput(), f'{two}model_warmup {{ name: "w" batch_size: 1 {data} }}')})
    options = Options(repository, backend="native", flags=("--model-control-mode=explicit",))
    with served(options) as running, grpc.InferenceServerClient(running.grpc) as client:
        for _ in range(20):
            with pytest.raises(InferenceServerException, match="failed to run warmup sample 'w'"):
                client.load_model("bad")
        running.check()


def test_a_reload_of_a_damaged_file_leaves_the_old_model_serving(
    models: Path, connected: grpc.InferenceServerClient
) -> None:
    file = models / "good" / "1" / "model.pt"
    file.write_bytes(b"damaged")
    with pytest.raises(InferenceServerException, match=r"failed to load model 'good'"):
        connected.load_model("good")
    assert answers(connected, "good")
    save(Weighted(), file)
    connected.load_model("good")


def histogram(server: Server, model: str) -> dict[str, float]:
    """Count and sum of each histogram of a model."""
    text = urllib.request.urlopen(f"http://{server.metrics}/metrics").read().decode()
    lines = re.findall(rf'^pytorch_(\w+_(?:count|sum)){{model="{model}",version="1"}} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in lines}


def await_histogram(server: Server, model: str, executions: int) -> dict[str, float]:
    """The histograms, once they have counted so many executions; Triton answers before it counts."""
    assert soon(lambda: histogram(server, model).get("batch_size_count", 0) == executions)
    return histogram(server, model)


@NEEDS_NATIVE
def test_the_histograms_of_a_model_survive_its_reload_and_end_with_it(tmp_path: Path) -> None:
    repository = write(tmp_path, {"good": GOOD["by_index"]})
    flags = ("--model-control-mode=explicit", "--load-model=good")
    options = Options(repository, backend="native", flags=flags)
    with served(options) as running, grpc.InferenceServerClient(running.grpc) as client:
        began = time.monotonic()
        assert answers(client, "good")
        seconds, first = time.monotonic() - began, await_histogram(running, "good", 1)
        assert first["batch_size_sum"] == 1 and 0 < first["compute_seconds_sum"] < seconds
        (repository / "good" / "1" / "model.pt").touch()
        client.load_model("good")
        assert answers(client, "good")
        assert await_histogram(running, "good", 2)["compute_seconds_count"] == 2
        client.unload_model("good")
        assert await_histogram(running, "good", 0) == {}
        client.load_model("good")
        assert answers(client, "good")
        assert await_histogram(running, "good", 1)["batch_size_sum"] == 1


def test_a_damaged_model_at_startup_stops_the_server_and_shows_its_log(models: Path, tmp_path: Path) -> None:
    (tmp_path / "cut_short").symlink_to(models / "cut_short")
    reason = r"(?s)cut_short version 1 does not load: .*failed to load model 'cut_short'.*its log ends"
    lines: list[str] = []
    with pytest.raises(ServerError, match=reason) as refusal, Server(Options(tmp_path, on_log=lines.append)):
        pytest.fail("it must not start")
    # Torch adds where it is in C++, which says nothing about the file.
    assert not [line for line in (*lines, str(refusal.value)) if "frame #" in line or "Exception raised from" in line]


def test_others_load_beside_a_damaged_model_where_errors_are_tolerated(models: Path, tmp_path: Path) -> None:
    (tmp_path / "good").symlink_to(models / "good")
    (tmp_path / "cut_short").symlink_to(models / "cut_short")
    flags = ("--exit-on-error=false", "--strict-readiness=false")
    with served(Options(tmp_path, flags=flags)) as running, grpc.InferenceServerClient(running.grpc) as client:
        assert answers(client, "good") and not client.is_model_ready("cut_short")
