"""A typed client for Triton over HTTP or gRPC that checks its input before it sends anything.

    with Client(Connection("grpc", "127.0.0.1:8001")) as client:
        logits = client.infer("mnist_mlp", np.zeros((1, 784), np.float32))["OUTPUT__0"]

tritonclient's HTTP client is built on gevent and belongs to one thread or greenlet: give each one a Client.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType, TracebackType
from typing import Any

from clients import failures, retry, wire
from clients.connection import Connection
from clients.contract import Array, Contract
from clients.errors import DeadlineExceeded, ServerUnavailable
from clients.wire import Label


class Client:
    """A connection to one server, from `with` (or construction) to `close`.

    Raises:
        InvalidInput: the connection's certificates are not usable.
    """

    def __init__(self, connection: Connection | None = None):
        self.connection = connection or Connection()
        self._module = _module_for(self.connection)
        self._client = _open_client(self._module, self.connection)
        self._contracts: dict[tuple[str, str], Contract] = {}

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._client.close()

    def is_ready(self) -> bool:
        """Whether the server and all its models are ready; False if nothing answers.

        Raises:
            ClientError: an error that waiting would not cure, such as TlsFailed.
        """
        try:
            return bool(self._call("readiness", self._client.is_server_ready, **self._options))
        except (ServerUnavailable, DeadlineExceeded):
            return False

    def server(self) -> dict[str, Any]:
        """The server's name, version and extensions."""
        return dict(self._query("server metadata", self._client.get_server_metadata))

    def models(self) -> list[dict[str, Any]]:
        """List all models of the repository with their versions and states."""
        return wire.models_from(self._query("model list", self._client.get_model_repository_index))

    def statistics(self, model: str = "") -> list[dict[str, Any]]:
        """Triton's counters per model and version; times in nanoseconds. gRPC omits zeros.

        Raises:
            ModelNotFound: the server has no such model.
        """
        answer = self._query(f"statistics {model}".strip(), self._client.get_inference_statistics, model)
        return list(wire.plain_numbers(answer).get("model_stats", []))

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """A model's config as the server uses it, in JSON.

        Raises:
            ModelNotFound: the server has no such model or version.
        """
        answer = self._query(f"config of {model}", self._client.get_model_config, model, version)
        return dict(answer.get("config", answer))

    def load(
        self, model: str, config: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model from the repository, or from the request itself, and wait until it is ready.

        A model that is already served stays in service until the new one is ready, and for good if that one fails.

        Args:
            model: its name.
            config: used in place of its config.pbtxt.
            files: all of its files by path, `<version>/model.pt`, in place of its folder; requires `config`.

        Raises:
            RequestRejected, ServerFailed: the model failed to load; the server's message says why.
        """
        self._call(
            f"load of {model}", self._client.load_model, model, **wire.load_options(config, files), **self._options
        )

    def unload(self, model: str) -> None:
        """Stop serving a model; requests under way are still answered."""
        self._call(f"unload of {model}", self._client.unload_model, model, **self._options)

    def contract(self, model: str, version: str = "") -> Contract:
        """A model's inputs and outputs; the server is asked once in this client's life.

        Raises:
            InvalidInput: the version is not a number.
            ModelNotFound: the server has no such model or version.
        """
        wire.check_version(model, version)
        key = (model, version)
        if key not in self._contracts:
            metadata = self._query(f"metadata of {model}", self._client.get_model_metadata, model, version)
            config = self._query(f"config of {model}", self._client.get_model_config, model, version)
            self._contracts[key] = wire.contract_from(metadata, config)
        return self._contracts[key]

    def infer(
        self,
        model: str,
        inputs: Array | Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        version: str = "",
    ) -> dict[str, Array]:
        """Run a model.

        Args:
            model: its name.
            inputs: arrays by input name, or the array of a model with one input; batch first if it takes batches.
            outputs: names of the outputs to return (default: all).
            version: a version number (default: the server's choice by the model's version policy).

        Returns:
            Arrays by output name.

        Raises:
            InvalidInput: the input does not fit the model's contract; nothing was sent.
            ClientError: one of its other kinds, for a failure of the server or of the connection.
        """
        contract = self.contract(model, version)
        wanted = wire.infer_outputs(self._module, contract, outputs)
        result = self._infer(contract, inputs, wanted, version)
        return {output.name(): result.as_numpy(output.name()) for output in wanted}

    def classify(
        self,
        model: str,
        inputs: Array | Mapping[str, Array],
        top: int = 1,
        output: str | None = None,
        version: str = "",
    ) -> list[list[Label]]:
        """Run a classifier, and let Triton name the classes (its classification extension).

        Args:
            model: its name.
            inputs: as `infer` takes them.
            top: how many labels, 1 or more; at most as many as the model has classes.
            output: the output with the scores (default: the model's first).
            version: as `infer` takes it.

        Returns:
            The `top` best labels of each input, best first.

        Raises:
            ServerFailed: a score is not finite.
            ClientError: as `infer` does.
        """
        wire.check_top(top)
        contract = self.contract(model, version)
        name, wanted = wire.class_output(self._module, contract, output)
        result = self._infer(contract, inputs, [wanted], version)
        return wire.labels_from(result.as_numpy(name), contract, top)

    def _infer(self, contract: Contract, inputs: Array | Mapping[str, Array], outputs: list[Any], version: str) -> Any:
        named = contract.named(inputs)
        contract.check(named)
        tensors = wire.infer_inputs(self._module, contract, named)
        return self._call(
            f"inference of {contract.model}",
            self._client.infer,
            contract.model,
            tensors,
            outputs=outputs,
            model_version=version,
            repeatable=False,
            **self._options,
        )

    @property
    def _options(self) -> dict[str, Any]:
        return wire.request_options(self.connection)

    def _query(self, what: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._call(what, function, *arguments, **wire.query_options(self.connection))

    def _call(
        self, what: str, function: Callable[..., Any], *arguments: Any, repeatable: bool = True, **options: Any
    ) -> Any:
        delays = retry.delays(self.connection.retries)
        while True:
            try:
                with self._deadline():
                    return function(*arguments, **options)
            except failures.transport_errors() as error:
                problem = failures.translate(error, self.connection, what)
                delay = next(delays, None) if retry.may_retry(problem, repeatable) else None
                if delay is None:
                    raise problem from error
            time.sleep(delay)

    def _deadline(self) -> AbstractContextManager[Any]:
        """Limit a whole HTTP request: its own timeouts restart with every byte. gRPC keeps the deadline itself."""
        if self.connection.protocol == "grpc":
            return nullcontext()
        import gevent

        return gevent.Timeout(self.connection.timeout_s, TimeoutError)  # type: ignore[no-any-return]


def _module_for(connection: Connection) -> ModuleType:
    """Tritonclient's module for the protocol, imported late: HTTP's needs gevent and gRPC's needs grpcio."""
    if connection.protocol == "grpc":
        import tritonclient.grpc as module
    else:
        import tritonclient.http as module
    return module  # type: ignore[no-any-return]


def _open_client(module: ModuleType, connection: Connection) -> Any:
    """Tritonclient's client; no request is sent yet."""
    if connection.protocol == "grpc":
        return module.InferenceServerClient(connection.url, **wire.grpc_channel(connection))
    options: dict[str, Any] = {"connection_timeout": connection.timeout_s, "network_timeout": connection.timeout_s}
    if connection.tls:
        import gevent.ssl

        # geventhttpclient passes the host's certificates as an argument; with --ca-file, they must not count.
        context = wire.ssl_context(connection, gevent.ssl.create_default_context)
        options |= {"ssl": True, "ssl_context_factory": lambda **_: context, "insecure": connection.tls.insecure}
    return module.InferenceServerClient(connection.url, **options)
