"""A model.py run by the real server: the slower of the two ways, and the one that callers get."""

import pickle
import queue
import shutil
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient import grpc
from tritonclient.grpc.model_config_pb2 import ModelConfig
from tritonclient.utils import InferenceServerException

from clients import failures, wire
from clients.client import Client
from clients.connection import Connection
from clients.contract import Array, Contract
from tools.serve.tritonserver import Options, Server
from tools.testing.plays import answers
from tools.testing.program import Program, config_from, is_decoupled
from tools.testing.python_model import Call, Outcome, PythonModel

_STAND_IN = Path(__file__).parent / "stand_in" / "model.py"


class Bench:
    """A server that loads one model.py after the other; it starts with the first."""

    def __init__(self, on_log: Callable[[str], None]):
        self._on_log, self._exit = on_log, ExitStack()

    def __enter__(self) -> "Bench":
        self._folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="triton-bench-")))
        self._repository = self._folder / "models"
        self._client: Client | None = None
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()

    @contextmanager
    def model(self, program: Program, timeout_s: float) -> Iterator[PythonModel]:
        """Load a model, and unload it at the end of the block.

        Raises:
            ClientError: it does not load.
        """
        with ExitStack() as stack:
            if program.plays:
                address = stack.enter_context(_listening(program, self._folder / "played"))
            for name, (_, config) in program.plays.items():
                config.parameters["STAND_IN"].string_value = address
                stack.enter_context(self._loaded(name, config, _STAND_IN))
            stack.enter_context(self._loaded(program.name, program.config, program.file, program.folder))
            # A client of its own: the contract of another model of this name may be in the bench's.
            with Client(self._opened().connection) as client:
                contract, config = client.contract(program.name), client.config(program.name)
            caller = _Caller(client.connection, contract, is_decoupled(config_from(config)), timeout_s)
            yield PythonModel(contract, caller.run)

    @contextmanager
    def _loaded(self, name: str, config: ModelConfig, file: Path, around: Path | None = None) -> Iterator[None]:
        folder = self._repository / name
        if around:
            # The other files of the model are where its code looks for them.
            ignored = shutil.ignore_patterns("__pycache__", "config.pbtxt", "configs")
            shutil.copytree(around, folder, ignore=ignored)
        version = folder / (file.parent.name if around else "1")
        version.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, version / "model.py")
        (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
        try:
            self._opened().load(name)
            try:
                yield
            finally:
                self._opened().unload(name)
        finally:
            shutil.rmtree(folder)

    def _opened(self) -> Client:
        if self._client is None:
            flags = ("--model-control-mode=explicit",)
            options = Options(
                self._repository, hardware="cpu", flags=flags, verbose=True, auto_complete=True, on_log=self._on_log
            )
            server = self._exit.enter_context(Server(options))
            self._exit.callback(server.hurry, 1.0)  # All models are unloaded by then.
            self._client = self._exit.enter_context(Client(Connection("grpc", server.grpc, timeout_s=120)))
        return self._client


class _Caller:
    """Sends a model's requests over gRPC, each on a connection of its own."""

    def __init__(self, connection: Connection, contract: Contract, is_decoupled: bool, timeout_s: float):
        self._connection, self._contract, self._timeout_s = connection, contract, timeout_s
        self._send = self._streamed if is_decoupled else self._inferred

    def run(self, calls: Sequence[Call]) -> list[Outcome]:
        """Send all at once."""
        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(self._outcome, calls))

    def _outcome(self, call: Call) -> Outcome:
        wanted = wire.infer_outputs(grpc, self._contract, call.outputs)
        arguments = wire.infer_arguments(grpc, self._contract, call.inputs, wanted, "")
        arguments |= {"request_id": call.request_id, "timeout": call.timeout, "parameters": dict(call.parameters)}
        arguments |= {"sequence_id": call.sequence_id}
        arguments |= {"sequence_start": call.sequence_start, "sequence_end": call.sequence_end}
        answered = list[dict[str, Array]]()
        try:
            with grpc.InferenceServerClient(self._connection.url) as client:
                for result in self._send(client, arguments):
                    names = [output.name for output in result.get_response().outputs]
                    answered.append({name: result.as_numpy(name) for name in names})
        except (InferenceServerException, queue.Empty) as error:
            cause = TimeoutError() if isinstance(error, queue.Empty) else error
            what = f"inference of {self._contract.model}"
            return Outcome(answered, failures.translate(cause, self._connection, what))
        return Outcome(answered)

    def _inferred(self, client: Any, arguments: Mapping[str, Any]) -> Iterator[Any]:
        yield client.infer(**arguments, client_timeout=self._timeout_s)

    def _streamed(self, client: Any, arguments: Mapping[str, Any]) -> Iterator[Any]:
        came: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        client.start_stream(lambda result, error: came.put((result, error)))
        try:
            client.async_stream_infer(**arguments, enable_empty_final_response=True)
            is_final = False
            while not is_final:
                result, error = came.get(timeout=self._timeout_s)
                if error:
                    raise error
                message = result.get_response()
                is_final = message.parameters["triton_final_response"].bool_param
                if message.outputs or not is_final:
                    yield result
        finally:
            client.stop_stream(cancel_requests=True)


@contextmanager
def _listening(program: Program, address: Path) -> Iterator[str]:
    """Answer what stand-ins pass on, while the block lasts."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            name, inputs = pickle.load(self.rfile)  # from our own server, in a folder that only this user enters
            try:
                said = answers(program, name, inputs), ""
            except Exception as error:
                said = [], str(error)
            pickle.dump(said, self.wfile)

    with socketserver.ThreadingUnixStreamServer(str(address), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield str(address)
        finally:
            server.shutdown()
            thread.join()
            address.unlink()
