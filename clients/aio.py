"""The same client for asyncio: every method of `clients.client.Client`, awaited.

async with AsyncClient(Connection("http")) as client:
    answers = await asyncio.gather(*(client.classify("mnist_mlp", batch) for batch in batches))
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import ModuleType, TracebackType
from typing import Any

from clients import failures, retry, wire
from clients.connection import Connection
from clients.contract import Array, Contract
from clients.errors import DeadlineExceeded, ServerUnavailable
from clients.wire import Label


class AsyncClient:
    """A connection to one server within one event loop; `clients.client.Client` documents the methods."""

    def __init__(self, connection: Connection | None = None):
        self.connection = connection or Connection()
        self._module = _module_for(self.connection)
        self._contracts: dict[tuple[str, str], Contract] = {}
        self._opened: Any = None

    async def __aenter__(self) -> "AsyncClient":
        # Not before: tritonclient's asyncio clients bind to the running loop.
        self._opened = _open_client(self._module, self.connection)
        return self

    @property
    def _client(self) -> Any:
        if self._opened is None:
            raise RuntimeError("use an AsyncClient within `async with`, which opens its connection")
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a second call does nothing."""
        if self._opened:
            await self._opened.close()

    async def is_ready(self) -> bool:
        """Whether the server and all its models are ready; False if nothing answers."""
        try:
            return bool(await self._call("readiness", self._client.is_server_ready, **self._options))
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
        options = wire.load_options(config, files) | self._options
        await self._call(f"load of {model}", self._client.load_model, model, **options)

    async def unload(self, model: str) -> None:
        """Stop serving a model; requests under way are still answered."""
        await self._call(f"unload of {model}", self._client.unload_model, model, **self._options)

    async def contract(self, model: str, version: str = "") -> Contract:
        """A model's inputs and outputs; the server is asked once, except by requests that start together."""
        wire.check_version(model, version)
        key = (model, version)
        if key not in self._contracts:
            metadata = await self._query(f"metadata of {model}", self._client.get_model_metadata, model, version)
            config = await self._query(f"config of {model}", self._client.get_model_config, model, version)
            self._contracts[key] = wire.contract_from(metadata, config)
        return self._contracts[key]

    async def infer(
        self,
        model: str,
        inputs: Array | Mapping[str, Array],
        outputs: Sequence[str] | None = None,
        version: str = "",
    ) -> dict[str, Array]:
        """Run a model; arrays by output name."""
        contract = await self.contract(model, version)
        wanted = wire.infer_outputs(self._module, contract, outputs)
        result = await self._infer(contract, inputs, wanted, version)
        return {output.name(): result.as_numpy(output.name()) for output in wanted}

    async def classify(
        self,
        model: str,
        inputs: Array | Mapping[str, Array],
        top: int = 1,
        output: str | None = None,
        version: str = "",
    ) -> list[list[Label]]:
        """Run a classifier; the `top` best labels of each input, best first."""
        wire.check_top(top)
        contract = await self.contract(model, version)
        name, wanted = wire.class_output(self._module, contract, output)
        result = await self._infer(contract, inputs, [wanted], version)
        return wire.labels_from(result.as_numpy(name), contract, top)

    async def _infer(
        self, contract: Contract, inputs: Array | Mapping[str, Array], outputs: list[Any], version: str
    ) -> Any:
        named = contract.named(inputs)
        contract.check(named)
        tensors = wire.infer_inputs(self._module, contract, named)
        return await self._call(
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

    async def _query(self, what: str, function: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        return await self._call(what, function, *arguments, **wire.query_options(self.connection))

    async def _call(
        self,
        what: str,
        function: Callable[..., Awaitable[Any]],
        *arguments: Any,
        repeatable: bool = True,
        **options: Any,
    ) -> Any:
        delays = retry.delays(self.connection.retries)
        while True:
            try:
                async with asyncio.timeout(self.connection.timeout_s):
                    return await function(*arguments, **options)
            except failures.transport_errors() as error:
                problem = failures.translate(error, self.connection, what)
                delay = next(delays, None) if retry.may_retry(problem, repeatable) else None
                if delay is None:
                    raise problem from error
            await asyncio.sleep(delay)


def _module_for(connection: Connection) -> ModuleType:
    if connection.protocol == "grpc":
        import tritonclient.grpc.aio as module
    else:
        import tritonclient.http.aio as module
    return module  # type: ignore[no-any-return]


def _open_client(module: ModuleType, connection: Connection) -> Any:
    if connection.protocol == "grpc":
        return module.InferenceServerClient(connection.url, **wire.grpc_channel(connection))
    # Instead of tritonclient's own limit of 60 s: the deadline is ours.
    options: dict[str, Any] = {"conn_timeout": None}
    if connection.tls:
        options |= {"ssl": True, "ssl_context": wire.ssl_context(connection)}
    return module.InferenceServerClient(connection.url, **options)
