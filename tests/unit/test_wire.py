"""Between our client and tritonclient: labels, contracts and numbers of answers, and which error stands for which."""

import errno
import http.client
import socket
import ssl
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor

from clients import errors, failures, labels, wire
from clients.connection import Connection, Tls
from clients.contract import Array, Contract, TensorSpec

MODULES: tuple[ModuleType, ...] = (tritonclient.http, tritonclient.grpc)
TEN = Contract("net", ("1",), 8, (TensorSpec("X", "FP32", (4,)),), (TensorSpec("Y", "FP32", (3,)),))


def row(*texts: str) -> Array:
    return np.array([text.encode() for text in texts], object)


def test_probabilities_are_a_softmax_over_all_classes_even_if_few_are_returned() -> None:
    ((best,),) = labels.labels_from(row("2.0:1:cat", "1.0:0:dog", "0.0:2:fox")[None], TEN, 1)
    assert (best.name, best.index, best.score) == ("cat", 1, 2.0)
    assert best.probability == pytest.approx(np.exp(2) / (np.exp(2) + np.exp(1) + 1))


def test_labels_keep_their_colons_and_fall_back_to_the_index() -> None:
    ((first, second),) = labels.labels_from(row("1.0:7:a:b", "0.0:3")[None], TEN, 5)
    assert (first.name, second.name) == ("a:b", "3")


def test_scores_too_large_for_exp_and_masked_classes_still_give_probabilities() -> None:
    huge = f"{3e38:f}"
    ((best, other, masked),) = labels.labels_from(row(f"{huge}:0:a", "1.0:1:b", "-inf:2:c")[None], TEN, 3)
    assert (best.probability, other.probability, masked.probability) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize("score", ["nan", "inf", "-inf"])
def test_scores_that_are_not_finite_are_an_error_that_names_the_input(score: str) -> None:
    rows = np.stack([row("1.0:0:a", "0.0:1:b"), row(f"{score}:0:a", f"{score}:1:b")])
    with pytest.raises(errors.ServerFailed, match=rf"score that is not finite \({score}\) for input 1 of the batch"):
        labels.labels_from(rows, TEN, 1)


def test_a_model_without_batches_gives_one_row_of_labels() -> None:
    single = Contract("net", ("1",), 0, TEN.inputs, TEN.outputs)
    ((label,),) = labels.labels_from(row("1.0:0:a", "0.0:1:b"), single, 1)
    assert label.name == "a"


def test_an_output_without_elements_has_no_labels() -> None:
    assert labels.labels_from(np.zeros((2, 0), object), TEN, 3) == [[], []]


def test_less_than_one_label_is_refused() -> None:
    with pytest.raises(errors.InvalidInput, match="expected one label or more, got top=0"):
        labels.class_output(tritonclient.http, TEN, None, 0)


def test_integers_that_protobuf_wrote_as_text_become_numbers_and_texts_stay() -> None:
    answer = {"name": "7", "version": "1", "count": "12", "ns": "-3", "list": ["4", "x"], "ratio": 0.5}
    expected = {"name": "7", "version": "1", "count": 12, "ns": -3, "list": [4, "x"], "ratio": 0.5}
    assert wire.plain_numbers(answer) == expected


@pytest.mark.parametrize("index", [{}, [], {"models": []}])
def test_an_empty_repository_lists_no_models(index: Any) -> None:
    assert wire.models_from(index) == []


def test_a_contract_is_the_same_from_either_protocol() -> None:
    http_config = {
        "name": "net",
        "max_batch_size": 0,
        "input": [{"name": "T", "data_type": "TYPE_STRING", "dims": [-1], "optional": True}],
        "output": [{"name": "Y", "data_type": "TYPE_FP16", "dims": [2, 3]}],
        "parameters": {"A": {"string_value": "b"}},
    }
    grpc_config = {
        "config": {
            "name": "net",
            "input": [{"name": "T", "data_type": "TYPE_STRING", "dims": ["-1"], "optional": True}],
            "output": [{"name": "Y", "data_type": "TYPE_FP16", "dims": ["2", "3"]}],
            "parameters": {"A": {"string_value": "b"}},
        }
    }
    first, second = (wire.contract_from({"versions": ["1"]}, config) for config in (http_config, grpc_config))
    text, scores = TensorSpec("T", "BYTES", (-1,), optional=True), TensorSpec("Y", "FP16", (2, 3))
    assert first == second == Contract("net", ("1",), 0, (text,), (scores,), {"A": "b"})


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("texts", [np.array([[b"a", b"bc"]]), np.array([["a", "bc"]], object)])
def test_texts_are_sent_as_utf_8(module: ModuleType, texts: Array) -> None:
    model = Contract("net", ("1",), 8, (TensorSpec("T", "BYTES", (2,)),), ())
    (tensor,) = wire.infer_arguments(module, model, {"T": texts}, [], "")["inputs"]
    content = tensor._get_content() if module is tritonclient.grpc else tensor._get_binary_data()
    assert list(deserialize_bytes_tensor(content)) == [b"a", b"bc"]
    assert tensor.shape() == [1, 2]


@pytest.mark.parametrize("module", MODULES)
def test_an_array_that_is_not_contiguous_is_sent_in_its_own_order(module: ModuleType) -> None:
    model = Contract("net", ("1",), 8, (TensorSpec("X", "FP32", (3,)),), ())
    turned = np.arange(6, dtype=np.float32).reshape(3, 2).T
    (tensor,) = wire.infer_arguments(module, model, {"X": turned}, [], "")["inputs"]
    content = tensor._get_content() if module is tritonclient.grpc else tensor._get_binary_data()
    assert np.frombuffer(content, np.float32).tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("module", MODULES)
def test_an_unknown_output_is_refused_with_the_known_ones(module: ModuleType) -> None:
    with pytest.raises(errors.InvalidInput, match="net has no output 'Z'; it gives Y"):
        wire.infer_outputs(module, TEN, ["Z"])
    with pytest.raises(errors.InvalidInput, match="net has no output 'Z'; it gives Y"):
        labels.class_output(module, TEN, "Z", 1)


@pytest.mark.parametrize("version", ["x", "-1", "1.0", "²"])
def test_an_invalid_version_number_is_refused(version: str) -> None:
    with pytest.raises(errors.InvalidInput, match="net: expected a version number, got"):
        wire.version_text("net", version)


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("400", "unexpected shape for input", errors.RequestRejected),
        ("StatusCode.INVALID_ARGUMENT", "unexpected shape for input", errors.RequestRejected),
        ("400", "requested model 'x' is not available", errors.ModelNotFound),
        ("404", "Request for unknown model: 'x' is not found", errors.ModelNotFound),
        ("StatusCode.UNAVAILABLE", "Request for unknown model: 'x' has no available versions", errors.ModelNotFound),
        ("404", "Not Found", errors.RequestRejected),
        ("403", "This API is restricted, expecting header 'k'", errors.RequestRejected),
        ("StatusCode.UNAVAILABLE", "This protocol is restricted, expecting header 'k'", errors.RequestRejected),
        ("429", "slow down", errors.ServerUnavailable),
        ("502", "bad gateway", errors.ServerUnavailable),
        ("503", "Exceeds maximum queue size", errors.ServerUnavailable),
        ("StatusCode.UNAVAILABLE", "failed to connect to all addresses", errors.ServerUnavailable),
        ("StatusCode.UNAVAILABLE", "failed to connect to all addresses: Socket closed", errors.ServerUnavailable),
        ("StatusCode.UNAVAILABLE", "Socket closed", errors.ConnectionLost),
        ("StatusCode.UNAVAILABLE", "recvmsg:Connection reset by peer", errors.ConnectionLost),
        ("StatusCode.UNAVAILABLE", "failed to connect; Tls handshake failed: WRONG_VERSION_NUMBER", errors.TlsFailed),
        ("504", "gateway timeout", errors.DeadlineExceeded),
        ("StatusCode.DEADLINE_EXCEEDED", "Deadline Exceeded", errors.DeadlineExceeded),
        ("500", "Stub process 'x' is not healthy.", errors.ServerUnavailable),
        ("StatusCode.INTERNAL", "failed", errors.ServerFailed),
        ("", "anything", errors.ServerFailed),
    ],
)
def test_status_and_message_decide_the_kind_of_error(status: str, message: str, kind: type[errors.ClientError]) -> None:
    error = failures.translate(InferenceServerException(message, status or None), Connection(), "inference of x")
    assert type(error) is kind
    assert message in str(error)
    assert ("`python -m clients.status` lists what it serves" in str(error)) == (kind is errors.ModelNotFound)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (ConnectionRefusedError("refused"), errors.ServerUnavailable),
        (socket.gaierror("unknown host"), errors.ServerUnavailable),
        (OSError(errno.EHOSTUNREACH, "no route"), errors.ServerUnavailable),
        (ConnectionResetError("reset"), errors.ConnectionLost),
        (BrokenPipeError("pipe"), errors.ConnectionLost),
        (http.client.HTTPException("connection closed."), errors.ConnectionLost),
        (aiohttp.ServerDisconnectedError(), errors.ConnectionLost),
        (aiohttp.ClientPayloadError("half"), errors.ConnectionLost),
        (ssl.SSLEOFError("the server died"), errors.ConnectionLost),
        (ssl.SSLCertVerificationError("self-signed"), errors.TlsFailed),
        (TimeoutError(), errors.DeadlineExceeded),
    ],
)
def test_a_failure_of_the_connection_decides_the_kind_of_error_too(
    raised: Exception, kind: type[errors.ClientError]
) -> None:
    assert isinstance(raised, failures.transport_errors())
    error = failures.translate(raised, Connection("http", "host:1"), "inference of x")
    assert type(error) is kind
    assert "http://host:1" in str(error)


def test_header_names_are_sent_in_lower_case_as_grpc_demands() -> None:
    assert wire.request_options(Connection("grpc", headers={"X-Key": "Sesame"}), {})["headers"] == {"x-key": "Sesame"}


def test_only_grpc_gets_the_deadline_with_each_call() -> None:
    assert wire.request_options(Connection("grpc", timeout_s=3), {})["client_timeout"] == 3
    assert "client_timeout" not in wire.request_options(Connection("http", timeout_s=3), {})


@pytest.mark.parametrize("content", [None, "no PEM"])
@pytest.mark.parametrize("of_the_server", [True, False])
def test_a_certificate_that_is_missing_or_broken_is_named(
    tmp_path: Path, of_the_server: bool, content: str | None
) -> None:
    path = tmp_path / "file.pem"
    if content:
        path.write_text(content)
    tls = Tls(ca_file=str(path)) if of_the_server else Tls(cert_file=str(path))
    with pytest.raises(errors.InvalidInput, match=f"cannot use {path} for TLS"):
        wire.grpc_channel(Connection("grpc", tls=tls))


def test_grpc_cannot_skip_verification() -> None:
    with pytest.raises(errors.InvalidInput, match="use --ca-file instead of --insecure"):
        wire.grpc_channel(Connection("grpc", tls=Tls(insecure=True)))
