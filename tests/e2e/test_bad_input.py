"""Requests that are wrong, sent raw: each gets a clear error, and the server lives on (see conftest.py).

What our own client refuses before it sends anything is tested in test_clients.py and in tests/unit/test_contract.py.
"""

import http.client
import json
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from clients.client import Client
from clients.connection import Connection
from clients.errors import ServerFailed
from tools.serve.tritonserver import Server

MODEL = "mnist_mlp"
INFER = f"/v2/models/{MODEL}/infer"
ZEROS = [0.0] * 784
IMAGE = np.zeros(784, np.float32).tobytes()
BINARY = "Inference-Header-Content-Length"


def tensor(
    shape: Sequence[int] = (1, 784), data: Any = ZEROS, datatype: str = "FP32", name: str = "INPUT__0"
) -> dict[str, Any]:
    return {"name": name, "shape": list(shape), "datatype": datatype, "data": data}


def body(*tensors: dict[str, Any], **more: Any) -> str:
    return json.dumps({"inputs": tensors, **more})


def post(server: Server, content: str | bytes, path: str = INFER, **headers: str) -> tuple[int, str]:
    """Status and text of the answer."""
    connection = http.client.HTTPConnection(server.http, timeout=30)
    try:
        connection.request("POST", path, content, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        pytest.param(body(tensor((1, 783), ZEROS[1:])), 400, "Expected [-1,784], got [1,783]", id="wrong shape"),
        pytest.param(body(tensor((784,))), 400, "batch-size must be <= 64", id="no batch dimension"),
        pytest.param(body(tensor((-1, 784))), 500, "Unable to parse 'shape'", id="negative shape"),
        pytest.param(body(tensor(data=[0.0] * 10)), 500, "Shape does not match", id="too few values"),
        pytest.param(
            body(tensor(data=[0] * 784, datatype="INT64")),
            400,
            "data-type is 'INT64', but model 'mnist_mlp' expects 'FP32'",
            id="wrong dtype",
        ),
        pytest.param(body(tensor(datatype="FP99")), 400, "invalid datatype for input INPUT__0", id="unknown dtype"),
        pytest.param(body(tensor(data=["a"] * 784)), 500, "non-number as double", id="text for numbers"),
        pytest.param(body(tensor(data=[None] * 784)), 500, "non-number as double", id="null for numbers"),
        pytest.param(body(tensor(name="X")), 400, "unexpected inference input 'X'", id="unknown input"),
        pytest.param(body(tensor(), tensor(name="X")), 400, "expected 1 inputs but got 2", id="one input too many"),
        pytest.param(body(), 400, "missing required input(s) ['INPUT__0']", id="missing input"),
        pytest.param("{}", 500, "non-existing object member 'inputs'", id="no inputs at all"),
        pytest.param(body(tensor(), outputs=[{"name": "X"}]), 400, "unexpected inference output 'X'", id="output"),
        pytest.param(body(tensor((0, 784), [])), 400, "Expected 3136, got 0", id="empty batch"),
        pytest.param(body(tensor((65, 784), ZEROS * 65)), 400, "batch-size must be <= 64", id="batch too large"),
        pytest.param('{"inputs":[', 500, "failed to parse the request JSON", id="malformed JSON"),
        pytest.param(body(tensor())[:500], 500, "failed to parse the request JSON", id="truncated JSON"),
        pytest.param(b"\xff\xfe\x00\x01", 500, "failed to parse the request JSON", id="no JSON"),
        pytest.param("[1, 2]", 500, "Unable to parse 'inputs'", id="JSON that is no object"),
        pytest.param("", 400, "Expected 3136, got 0", id="no body"),
    ],
)
def test_an_invalid_http_request_gets_its_status_and_the_reason(
    server: Server, content: str | bytes, status: int, words: str
) -> None:
    got, text = post(server, content)
    assert got == status
    assert words in json.loads(text)["error"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v2/models/no_such_model/infer", "unknown model: 'no_such_model' is not found"),
        (f"/v2/models/{MODEL}/versions/99/infer", f"unknown model: '{MODEL}' version 99 is not found"),
        (f"/v2/models/{MODEL}/versions/first/infer", "Not Found"),
    ],
)
def test_an_unknown_model_or_version_is_not_found_over_http(server: Server, path: str, words: str) -> None:
    status, text = post(server, body(tensor()), path)
    assert (status, words in text) == (404, True)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (IMAGE[:100], "expecting 3036 additional bytes"),
        (b"", "expecting 3136 additional bytes"),
        (IMAGE + b"more", "unexpected additional input data"),
    ],
)
def test_a_binary_body_of_the_wrong_size_is_refused_with_both_sizes(server: Server, payload: bytes, words: str) -> None:
    described = {**tensor(), "parameters": {"binary_data_size": len(IMAGE)}}
    del described["data"]
    header = body(described).encode()
    status, text = post(server, header + payload, **{BINARY: str(len(header))})
    assert (status, words in text) == (400, True)


@pytest.mark.parametrize("length", ["99999", "-5"])
def test_a_json_length_outside_the_body_is_refused(server: Server, length: str) -> None:
    status, text = post(server, body(tensor()), **{BINARY: length})
    assert (status, "inference header size should be in range" in text) == (400, True)


@pytest.mark.parametrize("half_closed", [True, False])
def test_a_truncated_body_gets_no_answer_and_harms_nobody(server: Server, half_closed: bool) -> None:
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=30 if half_closed else 0.3) as connection:
        head = f"POST {INFER} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000\r\n\r\n"
        connection.sendall(head.encode() + body(tensor()).encode()[:2000])
        if half_closed:
            connection.shutdown(socket.SHUT_WR)
            assert connection.recv(1000) == b""
        else:
            with pytest.raises(TimeoutError):
                connection.recv(1000)
    assert post(server, body(tensor()))[0] == 200


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_pass_through_as_json_tokens_that_say_so(server: Server, value: float) -> None:
    status, text = post(server, body(tensor(data=[value] * 784)))
    assert status == 200
    # Python's json writes and reads NaN and Infinity, as Triton does; strict JSON knows neither.
    assert not np.isfinite(json.loads(text)["outputs"][0]["data"]).any()


def test_nan_and_infinity_pass_through_our_client_too(client: Client) -> None:
    for value in (np.nan, np.inf):
        assert not np.isfinite(client.infer(MODEL, np.full((1, 784), value, np.float32))["OUTPUT__0"]).any()


def test_a_batch_with_nan_in_one_image_leaves_the_others_alone(client: Client) -> None:
    images = np.zeros((3, 784), np.float32)
    images[1] = np.nan
    finite = np.isfinite(client.infer(MODEL, images)["OUTPUT__0"]).all(axis=1)
    assert finite.tolist() == [True, False, True]


def test_classifying_nan_is_an_error_that_names_the_image(client: Client) -> None:
    images = np.zeros((3, 784), np.float32)
    images[1] = np.nan
    with pytest.raises(ServerFailed, match=r"mnist_mlp returned a score that is not finite \(nan\) for input 1"):
        client.classify(MODEL, images)


@pytest.fixture
def stub(server: Server) -> Iterator[Any]:
    """Triton's gRPC methods without any client around them."""
    with grpc.insecure_channel(server.grpc) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def message(shape: Sequence[int] = (1, 784), raw: bytes | None = IMAGE, **fields: Any) -> Any:
    """A ModelInferRequest; `fields` are its own (model_name …) or the tensor's (name, datatype)."""
    described = {"name": "INPUT__0", "datatype": "FP32"} | {
        k: fields.pop(k) for k in ("name", "datatype") if k in fields
    }
    request = service_pb2.ModelInferRequest(**{"model_name": MODEL, **fields})
    request.inputs.append(service_pb2.ModelInferRequest.InferInputTensor(shape=shape, **described))
    if raw is not None:
        request.raw_input_contents.append(raw)
    return request


@pytest.mark.parametrize(
    ("request_message", "code", "words"),
    [
        pytest.param(message((1, 783)), "INVALID_ARGUMENT", "Expected [-1,784], got [1,783]", id="wrong shape"),
        pytest.param(message(datatype="INT64"), "INVALID_ARGUMENT", "expects 'FP32'", id="wrong dtype"),
        pytest.param(message(datatype="FP99"), "INVALID_ARGUMENT", "data-type is '<invalid>'", id="unknown dtype"),
        pytest.param(message(name="X"), "INVALID_ARGUMENT", "unexpected inference input 'X'", id="unknown input"),
        pytest.param(message(model_name="gone"), "NOT_FOUND", "unknown model: 'gone' is not found", id="model"),
        pytest.param(message(model_version="99"), "NOT_FOUND", "version 99 is not found", id="unknown version"),
        pytest.param(message(model_version="x"), "INVALID_ARGUMENT", "should be an integral value", id="no version"),
        pytest.param(message(raw=IMAGE[:100]), "INVALID_ARGUMENT", "Expected 3136, got 100", id="truncated body"),
        pytest.param(message(raw=None), "INVALID_ARGUMENT", "unable to find data for input tensor", id="no data"),
        pytest.param(message((0, 784), b""), "INVALID_ARGUMENT", "Expected 3136, got 0", id="empty batch"),
        pytest.param(message((65, 784), IMAGE * 65), "INVALID_ARGUMENT", "must be <= 64", id="batch too large"),
        pytest.param(
            service_pb2.ModelInferRequest(model_name=MODEL),
            "INVALID_ARGUMENT",
            "missing required input(s) ['INPUT__0']",
            id="missing input",
        ),
    ],
)
def test_an_invalid_grpc_request_gets_its_code_and_the_reason(
    server: Server, stub: Any, request_message: Any, code: str, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request_message, timeout=30)
    assert caught.value.code().name == code
    assert words in caught.value.details()


def test_an_undecodable_message_is_refused_over_grpc(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError, match="Unable to parse request"):
            infer(b"\xff\xff\xff", timeout=30)


def test_after_all_of_that_a_valid_request_is_answered(server: Server, connection: Connection) -> None:
    with Client(connection) as client:
        assert client.infer(MODEL, np.zeros((1, 784), np.float32))["OUTPUT__0"].shape == (1, 10)
