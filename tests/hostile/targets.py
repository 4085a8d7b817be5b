"""What is attacked: a tritonserver itself, or two behind the door; and callers who mean well meanwhile."""

import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np

from clients.client import Client
from clients.connection import PROTOCOLS, Connection, Protocol
from clients.errors import ClientError
from tests.hostile.over_grpc import MODEL, SERVICE, Call

CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 0
input {{ name: "NUMBER" data_type: TYPE_FP32 dims: [ 1 ] }}
output {{ name: "OUTPUT" data_type: TYPE_{dtype} dims: [ -1 ] }}
instance_group {{ kind: KIND_CPU }}
"""
SOURCE = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        output = pb_utils.Tensor("OUTPUT", {array})
        return [pb_utils.InferenceResponse([output]) for _ in requests]
"""
# Models whose output has no classes: their data types, and what they answer.
CLASSLESS = {"texts": ("STRING", 'np.array([b"text"], np.object_)'), "nothing": ("FP32", "np.zeros(0, np.float32)")}


def write_repository(built: Path, folder: Path) -> Path:
    """A classifier, and models whose outputs have no classes."""
    shutil.copytree(built / MODEL, folder / MODEL)
    for name, (dtype, array) in CLASSLESS.items():
        write_model(folder, name, CONFIG.format(name=name, dtype=dtype), SOURCE.format(array=array))
    return folder


def write_model(repository: Path, name: str, config: str, source: str) -> None:
    """Add a model in Python, as version 1."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "1" / "model.py").write_text(source)
    (repository / name / "config.pbtxt").write_text(config)


def door_address(line: str) -> str:
    """HOST:PORT of the front door, from the line that `tools.serve` prints."""
    return line.split(" ")[3]


def send_http(address: str, sent: bytes, timeout_s: float = 12.0) -> str:
    """Send bytes; the status of the answer, or what came instead of it."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout_s) as connection:
            # A server that has seen enough answers and hangs up while we are still sending.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(sent)
            answer = connection.recv(4096)
    except TimeoutError:
        return "no answer in time"
    except OSError as error:
        return type(error).__name__
    words = answer.split(b"\r\n")[0].split()
    return (
        words[1].decode() if len(words) > 1 and words[0].startswith(b"HTTP/") else "hung up" if not answer else "other"
    )


def send_grpc(address: str, call: Call) -> str:
    """Make a call; its status."""
    with grpc.insecure_channel(address, [("grpc.max_send_message_length", -1)]) as channel:
        method = channel.unary_unary(SERVICE + call.method)
        try:
            method(call.message, timeout=call.timeout_s, metadata=call.metadata)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


class Callers:
    """One caller for each protocol, who asks for the same inference over and over, and counts what came of it."""

    def __init__(self, addresses: dict[Protocol, str], headers: dict[str, str] | None = None, pause_s: float = 0.01):
        self.answered: Counter[Protocol] = Counter()
        self.failures: list[str] = []
        self._addresses, self._headers, self._pause_s = addresses, headers or {}, pause_s
        self._stop = threading.Event()

    def _ask(self, protocol: Protocol) -> None:
        image = np.full((1, 784), 0.5, np.float32)
        # No retries of its own: what the door does not mend is a failure.
        with Client(Connection(protocol, self._addresses[protocol], 10, 0, self._headers)) as client:
            while not self._stop.is_set():
                try:
                    client.infer(MODEL, image)
                    self.answered[protocol] += 1
                except ClientError as error:
                    self.failures.append(f"{protocol}: {type(error).__name__}: {error}")
                    time.sleep(0.1)
                time.sleep(self._pause_s)

    @contextmanager
    def calling(self) -> Iterator["Callers"]:
        """Call within the block."""
        threads = [threading.Thread(target=self._ask, args=(protocol,)) for protocol in PROTOCOLS]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
