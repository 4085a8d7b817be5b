"""The same client for asyncio: every method of `clients.client.Client`, awaited.

async with AsyncClient(Connection("http")) as client:
    answers = await asyncio.gather(*(client.classify("mnist_mlp", batch) for batch in batches))
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Self

from clients import failures, wire
from clients.connection import Connection
from clients.contract import Array, Contract, Inputs
from clients.errors import DeadlineExceeded, ServerUnavailable
from clients.wire import Label


class AsyncClient:
    """A connection to one server within one event loop; `clients.client.Client` documents the methods."""

    def __init__(self, connection: Connection | None = None):
        self.connection = connection or Connection()
        self._options = wire.request_options(self.connection)
        self._module = importlib.import_module(f"tritonclient.{self.connection.protocol}.aio")
        self._contracts: dict[tuple[str, str], Contract] = {}
        self._opened: Any = None

    async def __aenter__(self) -> Self:
        # Not before: tritonclient's asyncio clients bind to the running loop.
        self._opened = self._module.InferenceServerClient(self.connection.url, **_constructor_options(self.connection))
        return self

    @property
    def _client(self) -> Any:
        if self._opened is None:
            raise RuntimeError("use an AsyncClient within `async with`, which opens its connection")
        return self._opened

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if self._opened:
            await self._opened.close()

    async def is_ready(self) -> bool:
        """Whether the server and all its models are ready; False if nothing answers."""
        try:
            return bool(await self._call("readiness", self._client.is_server_ready))
        except (ServerUnavailable, DeadlineExceeded):
            return False

    async def server(self) -> dict[str, Any]:
        """The server's name, version and extensions."""
        return dict(await self._query("server metadata", self._client.get_server_metadata))

    async def models(self) -> list[dict[str, Any]]:
        """List all models of the repository with their versions and states."""
        return wire.models_from(await self._query("model list", self._client.get_model_repository_index))

    async def statistics(self, model: str = "") -> list[dict[str, Any]]:
        """Triton's counters per model and version; times in nanoseconds."""
        answer = await self._query(f"statistics {model}".strip(), self._client.get_inference_statistics, model)
        return list(wire.plain_numbers(answer).get("model_stats", []))

    async def config(self, model: str, version: str = "") -> dict[str, Any]:
        """A model's config as the server uses it, in JSON."""
        answer = await self._query(f"config of {model}", self._client.get_model_config, model, version)
        return dict(answer.get("config", answer))

    async def load(
        self, model: str, config: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model from the repository, or from the request itself, and wait until it is ready."""
        options = wire.load_options(config, files)
        await self._call(f"load of {model}", self._client.load_model, model, **options)

    async def unload(self, model: str) -> None:
        """Stop serving a model; requests under way are still answered."""
        await self._call(f"unload of {model}", self._client.unload_model, model)

    async def contract(self, model: str, version: str = "") -> Contract:
        """A model's inputs and outputs; the server is asked once, except by requests that start together."""
        wire.check_version(model, version)
        if (model, version) not in self._contracts:
            metadata = await self._query(f"metadata of {model}", self._client.get_model_metadata, model, version)
            config = await self._query(f"config of {model}", self._client.get_model_config, model, version)
            self._contracts[model, version] = wire.contract_from(metadata, config)
        return self._contracts[model, version]

    async def infer(
        self, model: str, inputs: Inputs, outputs: Sequence[str] | None = None, version: str = ""
    ) -> dict[str, Array]:
        """Run a model; arrays by output name."""
        contract = await self.contract(model, version)
        wanted = wire.infer_outputs(self._module, contract, outputs)
        result = await self._infer(contract, inputs, wanted, version)
        return {output.name(): result.as_numpy(output.name()) for output in wanted}

    async def classify(
        self, model: str, inputs: Inputs, top: int = 1, output: str | None = None, version: str = ""
    ) -> list[list[Label]]:
        """Run a classifier; the `top` best labels of each input, best first."""
        contract = await self.contract(model, version)
        name, wanted = wire.class_output(self._module, contract, output, top)
        result = await self._infer(contract, inputs, [wanted], version)
        return wire.labels_from(result.as_numpy(name), contract, top)

    async def _infer(self, contract: Contract, inputs: Inputs, outputs: list[Any], version: str) -> Any:
        arguments = wire.infer_arguments(self._module, contract, inputs, outputs, version)
        return await self._call(f"inference of {contract.model}", self._client.infer, repeatable=False, **arguments)

    async def _query(self, what: str, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        # gRPC is to return JSON as HTTP does.
        options = {"as_json": True} if self.connection.protocol == "grpc" else {}
        return await self._call(what, function, *arguments, **options)

    async def _call(
        self, what: str, function: Callable[..., Any], *arguments: Any, repeatable: bool = True, **options: Any
    ) -> Any:
        delays = failures.retry_delays(self.connection.retries)
        while True:
            try:
                async with asyncio.timeout(self.connection.timeout_s):
                    return await function(*arguments, **options, **self._options)
            except failures.transport_errors() as error:
                problem = failures.translate(error, self.connection, what)
                delay = next(delays, None) if failures.may_retry(problem, repeatable) else None
                if delay is None:
                    raise problem from error
            await asyncio.sleep(delay)


def _constructor_options(connection: Connection) -> dict[str, Any]:
    if connection.protocol == "grpc":
        return wire.grpc_channel(connection)
    # Instead of tritonclient's own limit of 60 s: the deadline is ours.
    tls = {"ssl": True, "ssl_context": wire.ssl_context(connection)} if connection.tls else {}
    return {"conn_timeout": None, **tls}
