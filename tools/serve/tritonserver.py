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
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from tools.ports import ANY, hold_ports, listens, numeric_host
from tools.serve.caretaker import Caretaker
from tools.serve.endpoints import NAMES, endpoints, is_allowed
from tools.serve.hardware import use_gpu
from tools.serve.launch import STOP_SECONDS, Options, command_line, prepare_repository, shm_prefix
from tools.serve.log import GIVES_UP, NOISE, STACKS, failed_load, without_usage
from tools.serve.native import choose_backend
from tools.serve.scratch import plain_path, scratch_parent
from tools.serve.server_error import ServerError
from tools.serve.wheel import assemble_backends, environment

__all__ = ["Options", "Server"]  # What is needed to start one.

# Of 2.51: a few of some thousand starts on busy cores end so, before any model has loaded; on cores with ten processes
# each, some in a hundred.
_LOST_RACE, _TRIES = "boost::interprocess::lock_exception", 5


class Server:
    """A tritonserver that runs until the end of its `with` block.

    Attributes:
        endpoints: where to connect to.
        http, grpc, metrics: HOST:PORT of each; empty where a flag turns it off.
        repository: the path to it that tritonserver was given.
        on_gpu: whether config.pbtxt is served as it stands.
        failures: why models did not load as it started, by name.

    Raises:
        ServerError: on entry if it cannot start, with its log; from `check` if it has died.
        RepositoryError: on entry if a config cannot be read or derived, or a version is not what was signed.
    """

    def __init__(self, options: Options):
        self.options = options
        self.log: deque[str] = deque(maxlen=400)
        self.failures: dict[str, str] = {}
        self._has_given_up = False
        self._is_doomed = False
        self._patience = STOP_SECONDS + 5.0
        self._noise: tuple[str, ...] = ()
        self._exit = ExitStack()

    def __enter__(self) -> "Server":
        for tries_left in reversed(range(_TRIES)):
            try:
                self._start_or_clean_up()
                break
            except ServerError as error:
                if _LOST_RACE not in str(error) or not tries_left:
                    raise
                self._show("tritonserver ended as its Python backend set up shared memory; it is started once more")
        return self

    def _start_or_clean_up(self) -> None:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def check(self) -> None:
        """Raise ServerError, with the end of the log, if the process has ended."""
        if not self.is_running:
            code = self._process.returncode
            self._reader.join(timeout=1)
            raise self._error(_ending(code))

    def kill(self) -> None:
        """End it at once, from any thread and in any state; leaving the `with` block still cleans up."""
        self._is_doomed = True
        if hasattr(self, "_process"):
            self._process.kill()

    def hurry(self, seconds: float) -> None:
        """Grant it only so long to end: nothing runs any more, but callers may keep connections open."""
        self._patience = seconds

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log, without what is always there."""
        telling = [line for line in self.log if not any(noise in line for noise in (*self._noise, *STACKS))]
        return "\n".join(telling[-lines:])

    def address(self, protocol: str) -> str:
        """Return HOST:PORT for "http" or "grpc"."""
        return {"http": self.http, "grpc": self.grpc}[protocol]

    @property
    def mark(self) -> dict[str, str]:
        """What a process must have in its environment to be ended, like the server, if this process is killed."""
        return self._caretaker.mark

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._process.pid

    def _start(self) -> None:
        options = self.options
        self.log.clear()
        self._has_given_up = False
        gpu = self.on_gpu = use_gpu(options.hardware)
        self._noise = () if gpu else NOISE
        load, self.failures = prepare_repository(options, gpu)
        host = numeric_host(options.host)
        wanted = (options.http_port, options.grpc_port, options.metrics_port)
        used = [port if is_allowed(name, options.flags) else 0 for name, port in zip(NAMES, wanted, strict=True)]
        held = [self._exit.enter_context(each) for each in hold_ports(host, used)]
        ports = [each.getsockname()[1] for each in held]
        self.endpoints = endpoints(ANY.get(host, host), ports, options.flags)
        self.http, self.grpc, self.metrics = self.endpoints.http, self.endpoints.grpc, self.endpoints.metrics
        folder = tempfile.TemporaryDirectory(prefix="triton-", dir=scratch_parent())
        self._backends = Path(self._exit.enter_context(folder))
        self.repository = plain_path(options.repository, self._backends)
        options = replace(options, host=host, repository=self.repository)
        self._caretaker = Caretaker(self._backends, shm_prefix(self._backends), STOP_SECONDS)
        self._exit.enter_context(self._caretaker)
        self.backend = choose_backend(options.backend, options.on_log)
        if options.backend == "auto" and not self.backend.library:
            self._show(f"TorchScript is served by the slower Python-based backend: {self.backend.reason}")
        assemble_backends(self._backends, self.backend.library)
        self._process = subprocess.Popen(
            command_line(options, self._backends, ports, gpu) + load,
            env=environment() | self.mark,
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
        if self._is_doomed:
            self._process.kill()
        self._wait_until_ready()

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        for line in without_usage(line.rstrip() for line in self._process.stdout):
            self.log.append(line)
            self.failures |= failed_load(line)
            self._has_given_up |= line.startswith(GIVES_UP)
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
        while not ((is_listening := listens(self.pid, self.endpoints.ports)) and self.endpoints.are_ready()):
            self.check()
            # It listens once it has tried all models; after it has given up, it takes ten seconds to end.
            if is_listening and self.failures and self.options.is_lenient:
                return
            if self._has_given_up or (is_listening and self.failures):
                raise self._error("cannot be ready")
            if time.monotonic() > deadline:
                raise self._error(f"was not ready after {self.options.ready_timeout:g} s (--ready-timeout)")
            time.sleep(0.05)

    def _error(self, what: str) -> ServerError:
        """What happened, after the models that did not load, before the end of the log."""
        own = "".join(f"{failure}\n" for failure in self.failures.values())
        return ServerError(f"{own}tritonserver {what}; its log ends:\n{self.log_tail()}")

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGKILL if self._has_given_up else signal.SIGTERM)
        try:
            self._process.wait(self._patience)
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
