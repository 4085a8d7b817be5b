"""What the synchronous and the asyncio client share: everything between them and tritonclient that does no I/O.

tritonclient has four modules (HTTP and gRPC, each twice) that differ in details; this module hides the differences.
"""

import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from tritonclient.utils import InferenceServerException

from clients.connection import Connection
from clients.contract import Array, Contract, Inputs, TensorSpec
from clients.errors import InvalidInput
from clients.proxies import grpc_proxy

# Each Client has a TCP connection of its own and reconnects as soon as it retries: by default, gRPC shares connections
# within the process and refuses to reconnect for up to two minutes after a failure.
_GRPC_CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)


def request_options(connection: Connection, headers: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of a call: headers, and the deadline for gRPC (for HTTP, it belongs to the connection)."""
    # gRPC requires lower-case names; HTTP ignores case.
    options: dict[str, Any] = {
        "headers": {name.lower(): value for name, value in (*connection.headers.items(), *headers.items())}
    }
    return {**options, "client_timeout": connection.timeout_s} if connection.protocol == "grpc" else options


def channel_options(url: str) -> list[tuple[str, int]]:
    """Options of a gRPC channel to HOST:PORT."""
    # gRPC would ask the environment's proxy for this very host, too.
    return [*_GRPC_CHANNEL, ("grpc.enable_http_proxy", int(grpc_proxy(url) is not None))]


def grpc_channel(connection: Connection) -> dict[str, Any]:
    """Constructor arguments of both gRPC clients.

    Raises:
        InvalidInput: a PEM file is not usable, or the connection is insecure, which gRPC does not offer.
    """
    tls = connection.tls
    if tls is None:
        return {"channel_args": channel_options(connection.url)}
    if tls.insecure:
        raise InvalidInput("gRPC always checks the server's certificate; use --ca-file instead of --insecure")
    ssl_context(connection)  # gRPC itself would fail on a broken file without naming it
    return {
        "channel_args": channel_options(connection.url),
        "ssl": True,
        "root_certificates": tls.ca_file,
        "private_key": tls.key_file or tls.cert_file,
        "certificate_chain": tls.cert_file,
    }


def ssl_context(
    connection: Connection, create: Callable[..., ssl.SSLContext] = ssl.create_default_context
) -> ssl.SSLContext:
    """Create the TLS context of a connection with TLS; `create` is gevent's function for gevent's sockets.

    Raises:
        InvalidInput: a PEM file is missing or broken.
    """
    assert connection.tls is not None
    used = connection.tls.ca_file
    try:
        context = create(cafile=used)
        if used := connection.tls.cert_file:
            context.load_cert_chain(used, connection.tls.key_file)
    except OSError as error:
        files = f"{used}{f' with key {connection.tls.key_file}' if connection.tls.key_file else ''}"
        raise InvalidInput(f"cannot use {files} for TLS: {error}; expected PEM") from error
    if connection.tls.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def load_options(config: Mapping[str, Any] | None, files: Mapping[str, bytes] | None) -> dict[str, Any]:
    """Arguments of a load request; Triton requires `file:` in front of each path."""
    options: dict[str, Any] = {"config": json.dumps(config)} if config else {}
    return options | ({"files": {f"file:{path}": content for path, content in files.items()}} if files else {})


def plain_numbers(value: Any) -> Any:
    """Convert the strings that protobuf's JSON has for 64-bit integers back to numbers."""
    if isinstance(value, dict):
        texts = ("name", "version", "state", "reason")  # even if they are all digits
        return {key: item if key in texts else plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_numbers(item) for item in value]
    is_number = isinstance(value, str) and value.removeprefix("-").isdigit()
    return int(value) if is_number else value


def described(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Unwrap a description of the server, a model or a config; LookupError if it names nothing."""
    inner = answer.get("config", answer)
    return {**inner, "name": inner["name"]}


def models_from(index: Any) -> list[dict[str, Any]]:
    """Unwrap a model list: gRPC puts it into an object, and omits it if it is empty."""
    return [described(model) for model in (index.get("models", ()) if isinstance(index, dict) else index)]


def statistics_from(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Unwrap Triton's counters, with numbers as numbers."""
    return [described(model) for model in plain_numbers(answer).get("model_stats", ())]


def arrays_from(result: Any, outputs: Sequence[Any]) -> dict[str, Array]:
    """The arrays of an answer by output name; LookupError if one is missing."""
    arrays = {output.name(): result.as_numpy(output.name()) for output in outputs}
    if missing := [name for name, array in arrays.items() if array is None]:
        raise LookupError(f"no output {', '.join(missing)}")
    return arrays


def version_text(model: str, version: str | int) -> str:
    """A version as tritonclient takes it; raises InvalidInput for what is no number."""
    text = str(version)
    if text and not (text.isascii() and text.isdigit()):
        # Over HTTP, the server would answer a bare "Not Found".
        raise InvalidInput(f"{model}: expected a version number, got '{version}'")
    return text


def contract_from(metadata: dict[str, Any], config: dict[str, Any]) -> Contract:
    """Read a model's contract from its metadata and config, from either protocol."""
    config = described(config)
    return Contract(
        model=config["name"],
        versions=tuple(metadata.get("versions", ())),
        max_batch_size=int(config.get("max_batch_size", 0)),
        inputs=tuple(_tensor_spec(tensor) for tensor in config.get("input", ())),
        outputs=tuple(_tensor_spec(tensor) for tensor in config.get("output", ())),
        parameters={key: entry.get("string_value", "") for key, entry in config.get("parameters", {}).items()},
        members=tuple(step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", ())),
    )


def _tensor_spec(tensor: dict[str, Any]) -> TensorSpec:
    dims = tuple(int(dim) for dim in tensor["dims"])
    datatype = tensor["data_type"].removeprefix("TYPE_")
    return TensorSpec(tensor["name"], "BYTES" if datatype == "STRING" else datatype, dims, bool(tensor.get("optional")))


def infer_arguments(
    module: ModuleType, contract: Contract, inputs: Inputs, outputs: list[Any], version: str
) -> dict[str, Any]:
    """Check the inputs, and build the arguments of an inference with tritonclient's objects.

    Raises:
        InvalidInput: the inputs do not fit the model's contract.
    """
    named = contract.named(inputs)
    contract.check(named)
    datatypes = {spec.name: spec.datatype for spec in contract.inputs}
    try:
        tensors = [
            module.InferInput(name, list(array.shape), datatypes[name]).set_data_from_numpy(array)
            for name, array in named.items()
        ]
    except (InferenceServerException, UnicodeError, TypeError) as error:
        raise InvalidInput(f"{contract.model}: an input cannot be encoded ({error}); BYTES are str or bytes") from error
    return {"model_name": contract.model, "inputs": tensors, "outputs": outputs, "model_version": version}


def infer_outputs(module: ModuleType, contract: Contract, outputs: Sequence[str] | None) -> list[Any]:
    """Create tritonclient's objects for outputs (default: all).

    Raises:
        InvalidInput: the model has no output of that name.
    """
    known = [spec.name for spec in contract.outputs]
    for name in outputs or ():
        if name not in known:
            raise InvalidInput(f"{contract.model} has no output '{name}'; it gives {', '.join(known)}")
    return [module.InferRequestedOutput(name) for name in outputs or known]
