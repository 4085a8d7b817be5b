"""The pytorch backend against NVIDIA's rules, in the real tritonserver: binding, dtypes, batches and bad models.

One server holds a small model for each rule (tests/e2e/backend_models.py).
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.compiler import BACKENDS, NEEDS_NATIVE
from tests.conftest import served
from tests.e2e.backend_models import DTYPES, GOOD, STATEFUL, write
from tests.e2e.serving import name_of
from tests.waiting import settled, soon
from tools.serve.tritonserver import Options, Server
from tools.serve.usage import memory_bytes

Array = npt.NDArray[Any]
NUMPY = (np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64)


@pytest.fixture(scope="module", params=BACKENDS)
def triton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every model of GOOD, by either backend."""
    repository = write(tmp_path_factory.mktemp("models"), GOOD)
    with served(Options(repository, backend=request.param)) as running:
        yield running


@pytest.fixture
def connected(triton: Server) -> Iterator[grpc.InferenceServerClient]:
    """A plain client; after the test the server must still be alive and ready."""
    with grpc.InferenceServerClient(triton.grpc) as client:
        yield client
        triton.check()
        assert client.is_server_ready()


def infer(client: grpc.InferenceServerClient, model: str, options: dict[str, Any], **arrays: Array) -> dict[str, Array]:
    """All outputs of a model for inputs by name."""
    tensors = []
    for name, array in arrays.items():
        tensors.append(grpc.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype)))
        tensors[-1].set_data_from_numpy(array)
    result = client.infer(model, tensors, client_timeout=60, **options)
    return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}


def rows(*values: Any, dtype: Any = np.float32) -> Array:
    return np.array(values, dtype)


def mood(number: int) -> Array:
    return rows([number, 7])


def thread_count(server: Server) -> int:
    """How many threads tritonserver and its stubs have; gRPC's, which come and go, have names of their own."""
    process = psutil.Process(server.pid)
    pids = [each.pid for each in (process, *process.children())]
    return sum(name_of(int(task.name)) == name_of(pid) for pid in pids for task in Path(f"/proc/{pid}/task").iterdir())


A, B = rows([1, 2], [3, 4]), rows([5, 6], [7, 8])


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        ("by_argument", {"b": B, "a": A}, {"OUTPUT__0": A + 10 * B, "OUTPUT__1": A - B}),
        ("by_index", {"A__1": B, "B__0": A}, {"OUTPUT__1": A - B}),
        ("in_order", {"second": A, "first": B}, {"sum": A + 10 * B, "difference": A - B}),
        ("from_dict", {"right": B, "left": A}, {"OUTPUT__0": A + 10 * B}),
    ],
)
def test_inputs_and_outputs_bind_in_the_config_not_in_the_request(
    model: str, inputs: dict[str, Array], expected: dict[str, Array], connected: grpc.InferenceServerClient
) -> None:
    for names in (inputs, dict(reversed(inputs.items()))):
        answer = infer(connected, model, {}, **names)
        assert answer.keys() == expected.keys()
        assert all(np.array_equal(answer[name], expected[name]) for name in expected)


def test_strings_are_utf8_in_both_directions(connected: grpc.InferenceServerClient) -> None:
    texts = np.array(["straße".encode(), b"", "日本".encode()], np.object_)
    answer = infer(connected, "strings", {}, TEXT=texts)
    assert [text.decode() for text in answer["TEXT__0"]] == ["straße!", "!", "日本!"]
    assert answer["LENGTH__1"].shape == (3,)


def test_invalid_utf8_fails_only_its_own_request(connected: grpc.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="utf-8"):
        infer(connected, "strings", {}, TEXT=np.array([b"\xff\xfe"], np.object_))
    assert infer(connected, "strings", {}, TEXT=np.array([b"fine"], np.object_))["TEXT__0"] == [b"fine!"]


def test_strings_of_queued_requests_are_rows_of_one_batch(connected: grpc.InferenceServerClient) -> None:
    sent = [[b"a", b"long text", b"", b"b"], [b"", b"\xc3\x9f"], [b"x" * 1000, b"y"]]
    before = settled(lambda: statistics(connected, "string_rows"))
    with ThreadPoolExecutor(len(sent)) as pool:
        columns = [np.array(texts, np.object_).reshape(-1, 1) for texts in sent]
        answers = list(pool.map(lambda column: infer(connected, "string_rows", {}, TEXT=column)["SHOUTED"], columns))
    assert [answer[:, 0].tolist() for answer in answers] == [[text + b"!" for text in texts] for texts in sent]
    assert wait_for_inferences(connected, "string_rows", before[1] + 8) - before[0] < len(sent)


def test_every_dtype_survives_the_round_trip(connected: grpc.InferenceServerClient) -> None:
    arrays = [rows([0, 1], [1, 0], dtype=dtype) for dtype in NUMPY]
    answer = infer(connected, "dtypes", {}, **{f"IN__{index}": array for index, array in enumerate(arrays)})
    for index, array in enumerate(arrays):
        returned = answer[f"OUT__{len(DTYPES) - 1 - index}"]
        assert returned.dtype == array.dtype
        assert np.array_equal(returned, ~array if array.dtype == bool else array + 1)


def test_queued_requests_run_in_one_forward_and_each_gets_its_own_rows(
    connected: grpc.InferenceServerClient,
) -> None:
    sizes = (1, 2, 1, 3, 1)
    requests = [np.full((size, 2), 10 * number, np.float32) for number, size in enumerate(sizes)]
    requests[3][:, 1] = (1, 2, 3)
    before = settled(lambda: statistics(connected, "batch_size"))
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(lambda x: infer(connected, "batch_size", {}, INPUT__0=x), requests))
    executions = wait_for_inferences(connected, "batch_size", before[1] + sum(sizes)) - before[0]
    assert executions < len(requests)
    assert all(np.array_equal(answer["OUTPUT__0"], 2 * sent) for answer, sent in zip(answers, requests, strict=True))
    # What forward itself saw agrees with what the server counted: one call per execution, on all of its rows.
    assert sum((1 / answer["OUTPUT__1"][:, 0]).sum() for answer in answers) == pytest.approx(executions, abs=1e-3)


def wait_for_inferences(client: grpc.InferenceServerClient, model: str, expected: int) -> int:
    """Wait until the server has counted so many rows, which happens after it answers; return the executions by then."""
    assert soon(lambda: statistics(client, model)[1] == expected, pause=0.01)
    return settled(lambda: statistics(client, model))[0]


def statistics(client: grpc.InferenceServerClient, model: str) -> tuple[int, int]:
    """How often Triton ran the model so far, and on how many rows."""
    (counted,) = client.get_inference_statistics(model).model_stats
    return counted.execution_count, counted.inference_count


@pytest.mark.parametrize(
    ("model", "sent", "status", "message"),
    [
        ("moody", mood(1), "INTERNAL", "PyTorch execute failure: .*no such mood"),
        ("moody", mood(2), "INVALID_ARGUMENT", "expects datatype torch.float32 for output 'OUTPUT__0', model provides"),
        ("moody", np.repeat(mood(3), 2, 0), "INVALID_ARGUMENT", "'OUTPUT__0' has 1 rows for a batch of 2"),
        ("moody", mood(4), "INVALID_ARGUMENT", "'OUTPUT__0' is a scalar"),
        ("short", mood(0), "INVALID_ARGUMENT", "OUTPUT__1 .*refers to an output index which doesn't exist.*has 1 out"),
    ],
)
def test_a_model_that_fails_returns_the_reason_and_keeps_serving(
    model: str, sent: Array, status: str, message: str, connected: grpc.InferenceServerClient
) -> None:
    with pytest.raises(InferenceServerException, match=f"(?s){message}") as caught:
        infer(connected, model, {}, INPUT__0=sent)
    assert caught.value.status() == f"StatusCode.{status}"
    assert np.array_equal(infer(connected, "moody", {}, INPUT__0=mood(0))["OUTPUT__0"], mood(0))


def test_a_failed_execution_is_not_counted_as_an_inference(
    triton: Server, connected: grpc.InferenceServerClient
) -> None:
    before = settled(lambda: statistics(connected, "moody"))
    with pytest.raises(InferenceServerException):
        infer(connected, "moody", {}, INPUT__0=mood(1))
    infer(connected, "moody", {}, INPUT__0=mood(0))
    # Triton counts those of Python-based backends itself, and counts all.
    counted = 2 if triton.backend.name == "python" else 1
    assert wait_for_inferences(connected, "moody", before[1] + counted) == before[0] + counted


def test_a_failed_batch_answers_every_client(connected: grpc.InferenceServerClient) -> None:
    def ask(_: int) -> str:
        with pytest.raises(InferenceServerException) as caught:
            infer(connected, "moody", {}, INPUT__0=mood(1))
        return str(caught.value.message())

    # Some of them are queued together and fail as one batch, which must not crash the server.
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(320)))
    assert all("no such mood" in answer for answer in answers)
    assert np.array_equal(infer(connected, "moody", {}, INPUT__0=mood(0))["OUTPUT__0"], mood(0))


def test_a_request_gets_only_the_outputs_that_it_names(connected: grpc.InferenceServerClient) -> None:
    def ask(name: str) -> dict[str, Array]:
        return infer(connected, "batch_size", {"outputs": [grpc.InferRequestedOutput(name)]}, INPUT__0=A)

    # Queued requests that want different outputs.
    names = ["OUTPUT__0", "OUTPUT__1"] * 2
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(ask, names))
    assert [list(answer) for answer in answers] == [[name] for name in names]
    assert all(np.array_equal(answer["OUTPUT__0"], 2 * A) for answer in answers[::2])
    # This model lacks its second output, which does not matter to a request that does not name it.
    wanted = {"outputs": [grpc.InferRequestedOutput("OUTPUT__0")]}
    assert np.array_equal(infer(connected, "short", wanted, INPUT__0=A)["OUTPUT__0"], A)


def test_an_output_that_is_a_view_with_strides_is_sent_in_order(connected: grpc.InferenceServerClient) -> None:
    sent = rows([5, 1], [5, 2], [5, 3])
    assert np.array_equal(infer(connected, "moody", {}, INPUT__0=sent)["OUTPUT__0"], sent)


def test_an_output_whose_sign_torch_left_to_the_reader_is_sent_with_it(connected: grpc.InferenceServerClient) -> None:
    assert infer(connected, "imaginary", {}, x=rows([3]))["y"].tolist() == [[-3]]


def test_an_output_that_carries_gradients_is_sent_without_them(connected: grpc.InferenceServerClient) -> None:
    assert np.array_equal(infer(connected, "learning", {}, x=A)["y"], 3 * A)


def test_the_config_sets_file_name_and_inference_mode(connected: grpc.InferenceServerClient) -> None:
    assert not infer(connected, "process", {}, INPUT__0=A)["OUTPUT__0"].any()
    assert infer(connected, "one_thread", {}, INPUT__0=A)["OUTPUT__0"].all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_config_sets_the_number_of_threads(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # What a model without the parameter gets.
    models = {name: GOOD[name] for name in ("one_thread", "usual_threads", "process")}
    started = {}
    with (
        served(Options(write(tmp_path, models), backend=backend)) as server,
        grpc.InferenceServerClient(server.grpc) as client,
    ):
        for model in models:
            before = thread_count(server)
            infer(client, model, {}, INPUT__0=A)
            started[model] = thread_count(server) - before
    # Two workers beside the calling thread; torch may start a second set of them.
    # Triton itself may start one at the first request.
    assert started["one_thread"] < 2 <= started["process"]
    # Without the parameter it is a thread for each core, whatever the others have set.
    assert started["usual_threads"] >= min(len(os.sched_getaffinity(0)), 3) - 1


@NEEDS_NATIVE
def test_the_native_backend_keeps_the_state_of_each_sequence(tmp_path: Path) -> None:
    with (
        served(Options(write(tmp_path, STATEFUL), backend="native")) as server,
        grpc.InferenceServerClient(server.grpc) as client,
    ):
        for number in (1, 2, 3):
            for sequence in (7, 8):
                options = {"sequence_id": sequence, "sequence_start": number == 1, "sequence_end": number == 3}
                answer = infer(client, "running_sum", options, INPUT__0=rows([sequence * number]))
                assert answer["OUTPUT__0"].tolist() == [[sequence * sum(range(number + 1))]]


def test_reshape_applies_to_inputs_and_outputs(connected: grpc.InferenceServerClient) -> None:
    assert infer(connected, "reshaped", {}, x=rows([1, 2, 3, 4]))["y"].tolist() == [[1, 3, 2, 4]]


def test_control_tensors_of_a_sequence_reach_their_argument(connected: grpc.InferenceServerClient) -> None:
    for number in (1, 2):
        options = {"sequence_id": 9, "sequence_start": number == 1, "sequence_end": number == 2}
        answer = infer(connected, "controlled", options, INPUT__1=rows([number]))
        assert answer["OUTPUT__0"].tolist() == [[number, int(number == 1)]]


@NEEDS_NATIVE
@pytest.mark.parametrize(
    ("model", "name", "sent"),
    [
        ("moody", "INPUT__0", mood(0)),
        ("moody", "INPUT__0", mood(1)),
        ("moody", "INPUT__0", mood(2)),
        ("strings", "TEXT", np.array([b"text"], np.object_)),
        ("strings", "TEXT", np.array([b"\xff"], np.object_)),
    ],
)
def test_a_request_leaves_no_memory_behind_whether_it_succeeds_or_fails(
    model: str, name: str, sent: Array, tmp_path: Path
) -> None:
    options = Options(write(tmp_path, {model: GOOD[model]}), backend="native")
    with served(options) as server, grpc.InferenceServerClient(server.grpc) as client:

        def send(count: int) -> int:
            for _ in range(count):
                with suppress(InferenceServerException):
                    infer(client, model, {}, **{name: sent})
            return memory_bytes(server.pid)

        memory = [send(500), *(send(1000) for _ in range(4))]
        # A leak of one small tensor or error per request would be more, each time; an allocator grows now and then.
        assert min(after - before for before, after in pairwise(memory)) < 500e3
