"""The embedded tritonserver as a process.

    with Server(Options(repository)) as server:
        requests.get(f"http://{server.http}/v2/health/ready")

The binary comes from the `nvidia-pytriton` wheel (`tools.serve.wheel`).
"""

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

from tools.serve.caretaker import Caretaker
from tools.serve.hardware import use_gpu
from tools.serve.launch import LOCALHOST, STOP_SECONDS, Options, command_line, prepare_repository, shm_prefix
from tools.serve.log import NOISE, without_usage
from tools.serve.native import choose_backend
from tools.serve.ports import choose_ports, is_ready, listens, port_of
from tools.serve.server_error import ServerError
from tools.serve.wheel import assemble_backends, environment

__all__ = ["Options", "Server"]  # What is needed to start one.


class Server:
    """A tritonserver that runs until the end of its `with` block.

    Attributes:
        http, grpc, metrics: HOST:PORT to connect to.

    Raises:
        ServerError: on entry if it cannot start, with its log; from `check` if it has died.
        RepositoryError: on entry if a config cannot be read or derived, or a version is not what was signed.
    """

    def __init__(self, options: Options):
        self.options = options
        self.log: deque[str] = deque(maxlen=400)
        self._exit = ExitStack()

    def __enter__(self) -> "Server":
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def check(self) -> None:
        """Raise ServerError, with the end of the log, if the process has ended."""
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=1)
            raise ServerError(f"tritonserver {_ending(code)}; its log ends:\n{self.log_tail()}")

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log."""
        return "\n".join(list(self.log)[-lines:])

    def address(self, protocol: str) -> str:
        """Return HOST:PORT for "http" or "grpc"."""
        return {"http": self.http, "grpc": self.grpc}[protocol]

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._process.pid

    def _start(self) -> None:
        options = self.options
        gpu = use_gpu(options.hardware)
        self._noise = () if gpu else NOISE
        load = prepare_repository(options, gpu)
        ports = choose_ports(options.host, (options.http_port, options.grpc_port, options.metrics_port))
        host = LOCALHOST if options.host == "0.0.0.0" else options.host
        self.http, self.grpc, self.metrics = (f"{host}:{port}" for port in ports)
        self._backends = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="triton-")))
        self.backend = choose_backend(options.backend, options.on_log)
        if options.backend == "auto" and not self.backend.library:
            self._show(f"TorchScript is served by the slower Python-based backend: {self.backend.reason}")
        assemble_backends(self._backends, self.backend.library)
        caretaker = self._exit.enter_context(Caretaker(self._backends, shm_prefix(self._backends), STOP_SECONDS))
        self._process = subprocess.Popen(
            command_line(options, self._backends, ports, gpu) + load,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C in a terminal must reach only us; we then shut the server down.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._exit.callback(self._stop)
        caretaker.look_after(self._process.pid)
        self._wait_until_ready()

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in without_usage(line.rstrip() for line in self._process.stdout):
            self.log.append(line)
            shown = self.options.verbose or not any(noise in line for noise in self._noise)
            if line and shown:
                self._show(line)

    def _show(self, line: str) -> None:
        # A closed terminal must not end the thread that reads the log: the server would block on a full pipe.
        if self.options.on_log:
            with suppress(OSError, ValueError):
                self.options.on_log(line)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.options.ready_timeout
        # Another server on the same port would answer for one of ours that could not bind it.
        while not (is_ready(self.http) and listens(self.pid, port_of(self.http))):
            self.check()
            if time.monotonic() > deadline:
                raise ServerError(
                    f"tritonserver was not ready after {self.options.ready_timeout:g} s (--ready-timeout); "
                    f"its log ends:\n{self.log_tail()}"
                )
            time.sleep(0.05)

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self.log.append("tritonserver did not stop in time and was killed")
        finally:
            self._end()

    def _end(self) -> None:
        # The stubs share the server's session; none may outlive it, however it ended.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=1)
        if self._process.stdout:
            self._process.stdout.close()
        for leaked in Path("/dev/shm").glob(f"{shm_prefix(self._backends)}*"):
            leaked.unlink(missing_ok=True)


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
