"""What the synchronous and the asyncio client share: everything between them and tritonclient that does no I/O.

tritonclient has four modules (HTTP and gRPC, each twice) with nearly the same names; the differences end here.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from tritonclient.utils import InferenceServerException

from clients.connection import Connection
from clients.contract import Array, Contract, TensorSpec
from clients.errors import (
    ClientError,
    DeadlineExceeded,
    InvalidInput,
    ModelNotFound,
    RequestRejected,
    ServerFailed,
    ServerUnavailable,
)

# By HTTP status and by gRPC code, as InferenceServerException.status() gives them.
BY_STATUS: dict[str, type[ClientError]] = {
    "400": RequestRejected,
    "404": ModelNotFound,
    "499": DeadlineExceeded,
    "503": ServerUnavailable,
    "504": DeadlineExceeded,
    "StatusCode.INVALID_ARGUMENT": RequestRejected,
    "StatusCode.NOT_FOUND": ModelNotFound,
    "StatusCode.DEADLINE_EXCEEDED": DeadlineExceeded,
    "StatusCode.UNAVAILABLE": ServerUnavailable,
    "StatusCode.RESOURCE_EXHAUSTED": ServerUnavailable,
    "StatusCode.UNIMPLEMENTED": RequestRejected,
}
# Triton answers some of these as plain 400s or UNAVAILABLE; its words tell them apart.
UNKNOWN_MODEL = ("unknown model", "is not found", "has no available versions", "is not at ready state")
# Fields whose value is text even if it is all digits.
TEXTS = ("name", "version", "state", "reason")
TIMEOUTS = (TimeoutError, asyncio.TimeoutError)


@dataclass(frozen=True)
class Label:
    """One class of an answer: `score` is the model's raw output, `probability` its softmax over all classes."""

    name: str
    index: int
    score: float
    probability: float


def transport_errors() -> tuple[type[BaseException], ...]:
    """Everything that tritonclient lets through when a request fails."""
    import aiohttp

    return (InferenceServerException, OSError, aiohttp.ClientError, asyncio.TimeoutError)


def translate(error: BaseException, connection: Connection, what: str) -> ClientError:
    """Our error for one of tritonclient's, with the server's own words kept."""
    where = f"{connection.protocol}://{connection.url}"
    if isinstance(error, InferenceServerException):
        message = str(error.message() or error)
        return kind_of(str(error.status() or ""), message)(f"{what} at {where}: {message}")
    if isinstance(error, TIMEOUTS):
        return DeadlineExceeded(f"{what} at {where}: no answer within {connection.timeout_s:g} s (--timeout)")
    return ServerUnavailable(
        f"no server answers at {where} ({error}); start one with `python -m tools.serve`, or give its --url"
    )


def kind_of(status: str, message: str) -> type[ClientError]:
    """Which of our errors a status and its words stand for."""
    if any(words in message for words in UNKNOWN_MODEL):
        return ModelNotFound
    if "Deadline Exceeded" in message:
        return DeadlineExceeded
    if status in BY_STATUS:
        return BY_STATUS[status]
    return RequestRejected if status.startswith("4") else ServerFailed


def request_options(connection: Connection) -> dict[str, Any]:
    """Arguments of every call: headers, and gRPC's deadline (HTTP's is the connection's own)."""
    options: dict[str, Any] = {"headers": dict(connection.headers)}
    return {**options, "client_timeout": connection.timeout_s} if connection.protocol == "grpc" else options


def query_options(connection: Connection) -> dict[str, Any]:
    """Arguments of a call for metadata, config or statistics: gRPC is asked for JSON as HTTP gives it."""
    options = request_options(connection)
    return {**options, "as_json": True} if connection.protocol == "grpc" else options


def grpc_tls(connection: Connection) -> dict[str, Any]:
    """Constructor arguments of both gRPC clients.

    Raises:
        InvalidInput: --insecure, which gRPC does not offer.
    """
    tls = connection.tls
    if tls is None:
        return {}
    if tls.insecure:
        raise InvalidInput("gRPC always checks the server's certificate; give --ca-file instead of --insecure")
    return {
        "ssl": True,
        "root_certificates": tls.ca_file,
        "private_key": tls.key_file,
        "certificate_chain": tls.cert_file,
    }


def ssl_context(connection: Connection) -> ssl.SSLContext:
    """The TLS context of an HTTP connection."""
    assert connection.tls is not None
    context = ssl.create_default_context(cafile=connection.tls.ca_file)
    if connection.tls.cert_file:
        context.load_cert_chain(connection.tls.cert_file, connection.tls.key_file)
    if connection.tls.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def plain_numbers(value: Any) -> Any:
    """Turn the strings that JSON from protobuf has for 64-bit integers back into numbers."""
    if isinstance(value, dict):
        return {key: item if key in TEXTS else plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_numbers(item) for item in value]
    is_number = isinstance(value, str) and value.removeprefix("-").isdigit()
    return int(value) if is_number else value


def contract_from(metadata: dict[str, Any], config: dict[str, Any]) -> Contract:
    """A model's contract from its metadata and config, from either protocol."""
    config = config.get("config", config)
    return Contract(
        model=config["name"],
        versions=tuple(metadata.get("versions", ())),
        max_batch_size=int(config.get("max_batch_size", 0)),
        inputs=tuple(tensor_spec(tensor) for tensor in config.get("input", ())),
        outputs=tuple(tensor_spec(tensor) for tensor in config.get("output", ())),
        parameters={key: entry.get("string_value", "") for key, entry in config.get("parameters", {}).items()},
    )


def tensor_spec(tensor: dict[str, Any]) -> TensorSpec:
    """One input or output of a config in JSON."""
    dims = tuple(int(dim) for dim in tensor["dims"])
    datatype = tensor["data_type"].removeprefix("TYPE_")
    return TensorSpec(tensor["name"], "BYTES" if datatype == "STRING" else datatype, dims)


def infer_inputs(module: ModuleType, contract: Contract, inputs: Mapping[str, Array]) -> list[Any]:
    """Tritonclient's objects for checked inputs."""
    datatypes = {spec.name: spec.datatype for spec in contract.inputs}
    tensors = []
    for name, array in inputs.items():
        tensor = module.InferInput(name, list(array.shape), datatypes[name])
        tensors.append(tensor.set_data_from_numpy(array))
    return tensors


def infer_outputs(module: ModuleType, contract: Contract, outputs: Sequence[str] | None) -> list[Any]:
    """Tritonclient's objects for the wanted outputs, all of them by default.

    Raises:
        InvalidInput: the model has no output of a name.
    """
    known = [spec.name for spec in contract.outputs]
    for name in outputs or ():
        if name not in known:
            raise InvalidInput(f"{contract.model} has no output '{name}'; it gives {', '.join(known)}")
    return [module.InferRequestedOutput(name) for name in outputs or known]


def class_output(module: ModuleType, contract: Contract, output: str | None) -> tuple[str, Any]:
    """The output to classify by (default: the first), requested with all of its classes."""
    spec = next((spec for spec in contract.outputs if output in (None, spec.name)), None)
    if spec is None:
        raise InvalidInput(f"{contract.model} has no output '{output}'")
    return spec.name, module.InferRequestedOutput(spec.name, class_count=int(np.prod(spec.dims)))


def labels_from(rows: Array, batched: bool, top: int) -> list[list[Label]]:
    """Triton's "score:index:label" texts, one list of the `top` best per image."""
    return [labels_of(row, top) for row in (rows if batched else rows[None])]


def labels_of(row: Array, top: int) -> list[Label]:
    """One image's classes, best first, with probabilities over all of them."""
    parts = [text.decode().split(":", 2) for text in row]
    scores = np.array([float(part[0]) for part in parts])
    weights = np.exp(scores - scores.max())
    return [
        Label(part[2] if len(part) > 2 else part[1], int(part[1]), float(score), float(probability))
        for part, score, probability in zip(parts, scores, weights / weights.sum(), strict=True)
    ][:top]
