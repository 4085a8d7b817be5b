"""The same client for asyncio: every method of `clients.client.Client`, awaited.

async with AsyncClient(Connection("http")) as client:
    answers = await asyncio.gather(*(client.classify("mnist_mlp", batch) for batch in batches))
"""

import asyncio
import functools
import importlib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from clients import failures, streams, tracing, wire
from clients.chat import Message
from clients.connection import Connection
from clients.contract import Array, Contract, Inputs
from clients.errors import DeadlineExceeded, InvalidInput, ServerUnavailable
from clients.generation import Chunk, generation
from clients.handles import check_grpc, survives_no_fork
from clients.labels import Label, class_output

Answer = TypeVar("Answer")
_PATIENCE_S = 1.0  # with requests that were cancelled, before the connection is closed
if sys.version_info >= (3, 11):  # noqa: UP036  # A clone runs on 3.11, the installed client on 3.10 too.
    _timeout = asyncio.timeout
else:

    @asynccontextmanager
    async def _timeout(seconds: float) -> AsyncGenerator[None, None]:
        from async_timeout import timeout  # aiohttp brings it where asyncio has none

        try:
            async with timeout(seconds):
                yield
        except asyncio.TimeoutError as error:  # noqa: UP041
            raise TimeoutError from error


class AsyncClient:
    """A connection to one server within one event loop; `clients.client.Client` documents the methods."""

    def __init__(self, connection: Connection | None = None):
        self.connection = connection or Connection()
        self._module = importlib.import_module(f"tritonclient.{self.connection.protocol}.aio")
        self._contracts: dict[tuple[str, str], Contract] = {}
        self._opened: Any = None
        self._under_way: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> "AsyncClient":
        is_grpc = self.connection.protocol == "grpc"
        if is_grpc:
            check_grpc()
        # Not before: tritonclient's asyncio clients bind to the running loop.
        self._opened = self._module.InferenceServerClient(self.connection.url, **_constructor_options(self.connection))
        self._loop = asyncio.get_running_loop()
        if is_grpc:
            survives_no_fork(self._opened)
        return self

    @property
    def _client(self) -> Any:
        if self._opened is None:
            raise InvalidInput("use an AsyncClient within `async with`, which opens its connection and closes it")
        if self._loop is not asyncio.get_running_loop():
            raise InvalidInput("an AsyncClient belongs to the event loop that opened it; open one in each loop")
        return self._opened

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; a second call does nothing."""
        opened, self._opened = self._opened, None
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=_PATIENCE_S)
        if opened:
            await opened.close()

    async def is_ready(self) -> bool:
        """Whether the server and all its models are ready; False if nothing answers."""
        try:
            return bool(await self._call("readiness", self._client.is_server_ready))
        except (ServerUnavailable, DeadlineExceeded):
            return False

    async def server(self) -> dict[str, Any]:
        """The server's name, version and extensions."""
        return await self._query("server metadata", wire.described, self._client.get_server_metadata)

    async def models(self) -> list[dict[str, Any]]:
        """List all models of the repository with their versions and states."""
        return await self._query("model list", wire.models_from, self._client.get_model_repository_index)

    async def statistics(self, model: str = "") -> list[dict[str, Any]]:
        """Triton's counters per model and version; times in nanoseconds."""
        what = f"statistics {model}".strip()
        return await self._query(what, wire.statistics_from, self._client.get_inference_statistics, model)

    async def config(self, model: str, version: str | int = "") -> dict[str, Any]:
        """A model's config as the server uses it, in JSON."""
        version, what = wire.version_text(model, version), f"config of {model}"
        return await self._query(what, wire.described, self._client.get_model_config, model, version)

    async def load(
        self, model: str, config: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model from the repository, or from the request itself, and wait until it is ready."""
        options = wire.load_options(config, files)
        await self._call(f"load of {model}", self._client.load_model, model, **options)

    async def unload(self, model: str) -> None:
        """Stop serving a model; requests under way are still answered."""
        await self._call(f"unload of {model}", self._client.unload_model, model)

    async def contract(self, model: str, version: str | int = "") -> Contract:
        """A model's inputs and outputs; the server is asked once, except by requests that start together."""
        version = wire.version_text(model, version)
        if (model, version) not in self._contracts:
            config = await self.config(model, version)
            contract_from = functools.partial(wire.contract_from, config=config)
            self._contracts[model, version] = await self._query(
                f"metadata of {model}", contract_from, self._client.get_model_metadata, model, version
            )
        return self._contracts[model, version]

    async def infer(
        self, model: str, inputs: Inputs, outputs: Sequence[str] | None = None, version: str | int = ""
    ) -> dict[str, Array]:
        """Run a model; arrays by output name."""
        contract = await self.contract(model, version)
        wanted = wire.infer_outputs(self._module, contract, outputs)
        return await self._infer(contract, inputs, wanted, version, lambda answer: wire.arrays_from(answer, wanted))

    async def classify(
        self, model: str, inputs: Inputs, top: int = 1, output: str | None = None, version: str | int = ""
    ) -> list[list[Label]]:
        """Run a classifier; the `top` best labels of each input, best first."""
        contract = await self.contract(model, version)
        wanted, labels_from = class_output(self._module, contract, output, top)
        return await self._infer(contract, inputs, [wanted], version, labels_from)

    async def generate(
        self,
        model: str,
        prompt: str | Sequence[Message],
        *,
        stream: bool = True,
        chat_template: str = "",
        version: str | int = "",
        **sampling: Any,
    ) -> AsyncGenerator[Chunk, None]:
        """Have a language model continue a text or answer messages, piece by piece."""
        contract = await self.contract(model, version)
        asked = generation(contract, prompt, sampling, stream, chat_template, str(version))
        async with aclosing(streams.chunks_aio(self._client, asked, self.connection)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _infer(
        self, contract: Contract, inputs: Inputs, outputs: list[Any], version: str | int, read: Callable[[Any], Answer]
    ) -> Answer:
        arguments = wire.infer_arguments(self._module, contract, inputs, outputs, str(version))
        what = f"inference of {contract.model}"
        result = await self._call(what, self._client.infer, repeatable=False, **arguments)
        with failures.reading(self.connection, what):
            return read(result)

    async def _query(
        self, what: str, read: Callable[[Any], Answer], function: Callable[..., Awaitable[Any]], *arguments: Any
    ) -> Answer:
        # gRPC is to return JSON as HTTP does.
        options = {"as_json": True} if self.connection.protocol == "grpc" else {}
        answer = await self._call(what, function, *arguments, **options)
        with failures.reading(self.connection, what):
            return read(answer)

    async def _call(
        self, what: str, function: Callable[..., Any], *arguments: Any, repeatable: bool = True, **options: Any
    ) -> Any:
        with tracing.span(what, self.connection) as headers:
            options |= wire.request_options(self.connection, headers)
            return await self._attempt(what, functools.partial(function, *arguments, **options), repeatable)

    async def _attempt(self, what: str, send: Callable[[], Any], repeatable: bool) -> Any:
        delays = failures.retry_delays(self.connection.retries)
        while True:
            try:
                async with _timeout(self.connection.timeout_s):
                    call = asyncio.ensure_future(send())
                    return await (call if repeatable else self._finished(call))
            except failures.transport_errors() as error:
                delay = failures.delay_or_raise(error, self.connection, what, delays, repeatable)
            await asyncio.sleep(delay)

    def _finished(self, call: "asyncio.Future[Any]") -> "asyncio.Future[Any]":
        """An inference that goes on when its caller is cancelled: that can end tritonserver 2.51 over gRPC."""
        if self.connection.protocol == "http":
            return call
        self._under_way.add(call)
        call.add_done_callback(self._under_way.discard)
        call.add_done_callback(lambda done: done.cancelled() or done.exception())  # Nobody else may ask for it.
        return asyncio.shield(call)


def _constructor_options(connection: Connection) -> dict[str, Any]:
    if connection.protocol == "grpc":
        return wire.grpc_channel(connection)
    # Instead of tritonclient's own limit of 60 s: the deadline is ours.
    tls = {"ssl": True, "ssl_context": wire.ssl_context(connection)} if connection.tls else {}
    return {"conn_timeout": None, **tls}
