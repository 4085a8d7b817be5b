"""A typed client for Triton over HTTP or gRPC that checks its input before it sends anything.

    with Client(Connection("grpc", "127.0.0.1:8001")) as client:
        logits = client.infer("mnist_mlp", np.zeros((1, 784), np.float32))["OUTPUT__0"]

Threads may share a Client, and child processes go on with their parent's; each gets a connection of its own.
"""

import functools
import importlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from clients import failures, streams, tracing, wire
from clients.chat import Message
from clients.connection import Connection
from clients.contract import Array, Contract, Inputs
from clients.errors import DeadlineExceeded, ServerUnavailable
from clients.generation import Chunk, generation
from clients.handles import Handles, grpc_call
from clients.labels import Label, class_output

Answer = TypeVar("Answer")


class Client:
    """A connection to one server, from `with` (or construction) to `close`.

    Raises:
        InvalidInput: the connection's certificates are not usable.
    """

    def __init__(self, connection: Connection | None = None):
        self.connection = connection or Connection()
        # Imported late: HTTP's module needs gevent, and gRPC's needs grpcio.
        self._module = importlib.import_module(f"tritonclient.{self.connection.protocol}")
        options = _constructor_options(self.connection)
        # No lambda over `self`: a cycle would leave its connections to the garbage collector.
        open_one = functools.partial(self._module.InferenceServerClient, self.connection.url, **options)
        self._handles = Handles(open_one, self.connection.protocol)
        self._contracts: dict[tuple[str, str], Contract] = {}

    @property
    def _client(self) -> Any:
        return self._handles.get()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._handles.close()

    def is_ready(self) -> bool:
        """Whether the server and all its models are ready; False if nothing answers.

        Raises:
            ClientError: an error that waiting would not cure, such as TlsFailed.
        """
        try:
            return bool(self._call("readiness", self._client.is_server_ready))
        except (ServerUnavailable, DeadlineExceeded):
            return False

    def server(self) -> dict[str, Any]:
        """The server's name, version and extensions."""
        return self._query("server metadata", wire.described, self._client.get_server_metadata)

    def models(self) -> list[dict[str, Any]]:
        """List all models of the repository with their versions and states."""
        return self._query("model list", wire.models_from, self._client.get_model_repository_index)

    def statistics(self, model: str = "") -> list[dict[str, Any]]:
        """Triton's counters per model and version; times in nanoseconds. gRPC omits zeros.

        Raises:
            ModelNotFound: the server has no such model.
        """
        what = f"statistics {model}".strip()
        return self._query(what, wire.statistics_from, self._client.get_inference_statistics, model)

    def config(self, model: str, version: str | int = "") -> dict[str, Any]:
        """A model's config as the server uses it, in JSON.

        Raises:
            ModelNotFound: the server has no such model or version.
        """
        version, what = wire.version_text(model, version), f"config of {model}"
        return self._query(what, wire.described, self._client.get_model_config, model, version)

    def load(
        self, model: str, config: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model from the repository, or from the request itself, and wait until it is ready.

        A model that is already served stays in service until the new one is ready, and for good if that one fails.
        The request's `config` takes the place of its config.pbtxt, and with it, `files` can take the place of its
        folder: all of its files by path, `<version>/model.pt`.

        Raises:
            RequestRejected, ServerFailed: the model failed to load; the server's message says why.
        """
        options = wire.load_options(config, files)
        self._call(f"load of {model}", self._client.load_model, model, **options)

    def unload(self, model: str) -> None:
        """Stop serving a model; requests under way are still answered."""
        self._call(f"unload of {model}", self._client.unload_model, model)

    def contract(self, model: str, version: str | int = "") -> Contract:
        """A model's inputs and outputs; the server is asked once in this client's life.

        Raises:
            InvalidInput: the version is not a number.
            ModelNotFound: the server has no such model or version.
        """
        version = wire.version_text(model, version)
        if (model, version) not in self._contracts:
            config = self.config(model, version)
            contract_from = functools.partial(wire.contract_from, config=config)
            self._contracts[model, version] = self._query(
                f"metadata of {model}", contract_from, self._client.get_model_metadata, model, version
            )
        return self._contracts[model, version]

    def infer(
        self, model: str, inputs: Inputs, outputs: Sequence[str] | None = None, version: str | int = ""
    ) -> dict[str, Array]:
        """Run a model, and return arrays by output name.

        Args:
            model: its name.
            inputs: arrays by input name, or the array of a model with one input; batch first if it takes batches.
            outputs: names of the outputs to return (default: all).
            version: a version number (default: the server's choice by the model's version policy).

        Raises:
            InvalidInput: the input does not fit the model's contract; nothing was sent.
            ClientError: one of its other kinds, for a failure of the server or of the connection.
        """
        contract = self.contract(model, version)
        wanted = wire.infer_outputs(self._module, contract, outputs)
        return self._infer(contract, inputs, wanted, version, lambda answer: wire.arrays_from(answer, wanted))

    def classify(
        self, model: str, inputs: Inputs, top: int = 1, output: str | None = None, version: str | int = ""
    ) -> list[list[Label]]:
        """Run a classifier, and let Triton name the classes (its classification extension).

        Returns the `top` best labels of each input, best first, by the scores in `output` (default: the model's first);
        other arguments are as `infer` takes them.

        Raises:
            ServerFailed: a score is not finite.
            ClientError: as `infer` does.
        """
        contract = self.contract(model, version)
        wanted, labels_from = class_output(self._module, contract, output, top)
        return self._infer(contract, inputs, [wanted], version, labels_from)

    def generate(
        self,
        model: str,
        prompt: str | Sequence[Message],
        *,
        stream: bool = True,
        chat_template: str = "",
        version: str | int = "",
        **sampling: Any,
    ) -> Generator[Chunk, None, None]:
        """Have a language model continue a text or answer messages; yields the answer piece by piece.

        Leaving the loop ends the generation on the server.

        Args:
            model: its name.
            prompt: a text; or messages {"role": …, "content": …}, for the model's chat template.
            stream: whether pieces come as they are made, or the answer as one.
            chat_template: another one (Jinja).
            version: a version number.
            **sampling: as vLLM names them: max_tokens, temperature, top_p, top_k, seed, stop, n …

        Raises:
            InvalidInput: it is no language model, or the messages do not fit its template.
            ClientError: as `infer` does.
        """
        contract = self.contract(model, version)
        asked = generation(contract, prompt, sampling, stream, chat_template, str(version))
        return streams.chunks(self._client, asked, self.connection)

    def _infer(
        self, contract: Contract, inputs: Inputs, outputs: list[Any], version: str | int, read: Callable[[Any], Answer]
    ) -> Answer:
        arguments = wire.infer_arguments(self._module, contract, inputs, outputs, str(version))
        what = f"inference of {contract.model}"
        result = self._call(what, self._client.infer, repeatable=False, **arguments)
        with failures.reading(self.connection, what):
            return read(result)

    def _query(self, what: str, read: Callable[[Any], Answer], function: Callable[..., Any], *arguments: Any) -> Answer:
        # gRPC is to return JSON as HTTP does.
        options = {"as_json": True} if self.connection.protocol == "grpc" else {}
        answer = self._call(what, function, *arguments, **options)
        with failures.reading(self.connection, what):
            return read(answer)

    def _call(
        self, what: str, function: Callable[..., Any], *arguments: Any, repeatable: bool = True, **options: Any
    ) -> Any:
        with tracing.span(what, self.connection) as headers:
            options |= wire.request_options(self.connection, headers)
            return self._attempt(what, functools.partial(function, *arguments, **options), repeatable)

    def _attempt(self, what: str, send: Callable[[], Any], repeatable: bool) -> Any:
        delays = failures.retry_delays(self.connection.retries)
        while True:
            try:
                with self._deadline():
                    return send()
            except failures.transport_errors() as error:
                delay = failures.delay_or_raise(error, self.connection, what, delays, repeatable)
            except BaseException:
                # Ctrl-C, say. HTTP's connection would wait for ever for its turn, or read the answer to this request.
                self._handles.drop()
                raise
            time.sleep(delay)

    def _deadline(self) -> AbstractContextManager[Any]:
        """Limit a whole HTTP request: its own timeouts restart with every byte. gRPC keeps the deadline by itself."""
        if self.connection.protocol == "grpc":
            return grpc_call()
        import gevent

        return gevent.Timeout(self.connection.timeout_s, TimeoutError)  # type: ignore[no-any-return]


def _constructor_options(connection: Connection) -> dict[str, Any]:
    if connection.protocol == "grpc":
        return wire.grpc_channel(connection)
    options: dict[str, Any] = {"connection_timeout": connection.timeout_s, "network_timeout": connection.timeout_s}
    if connection.tls:
        import gevent.ssl

        # geventhttpclient passes the host's certificates as an argument; with --ca-file, they must not count.
        context = wire.ssl_context(connection, gevent.ssl.create_default_context)
        options |= {"ssl": True, "ssl_context_factory": lambda **_: context, "insecure": connection.tls.insecure}
    return options
