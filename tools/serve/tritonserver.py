"""The embedded tritonserver as a process: put together, started, watched, stopped.

    with Server(Options(repository)) as server:
        requests.get(f"http://{server.http}/v2/health/ready")

The binary comes from the `nvidia-pytriton` wheel (`tools.server.wheel`).
"""

import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tools.repository import CPU_CONFIG, REPOSITORY, model_names, versions, write_cpu_config
from tools.serve.caretaker import Caretaker
from tools.serve.hardware import use_gpu
from tools.serve.ports import choose_ports, is_ready, listens, port_of
from tools.serve.server_error import ServerError
from tools.serve.wheel import assemble_backends, environment, wheel_path
from tools.sign.signatures import refuse_unproven

LOCALHOST = "127.0.0.1"
STOP_SECONDS = 10
# Lines that say nothing on a host without a GPU but look like trouble to a newcomer.
NOISE = (
    "CudaDriverHelper",
    "unable to create stream for",
    "pinned system memory",
    "CUDA memory pool disabled",
    "Signal (15) received",
    "ignore version directory '.held'",  # That is what it is to do.
    "Failed to set config modification time",  # Of a model that came over the wire and has no file of its own.
    "torch.quantize_per_tensor",  # torch's notice, at each load of an int8 model, that it means to remove the operator
)


@dataclass(frozen=True)
class Options:
    """What to serve and where; port 0 means any free one. With a public key, only what was signed."""

    repository: Path = REPOSITORY
    host: str = LOCALHOST
    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0
    hardware: str = "auto"
    ready_timeout: float = 120.0
    verbose: bool = False
    flags: Sequence[str] = ()
    public_key: Path | None = None
    on_log: Callable[[str], None] | None = field(default=None, compare=False)


class Server:
    """A running tritonserver, from `with` to the end of its block.

    Attributes:
        http, grpc, metrics: HOST:PORT to connect to.

    Raises:
        ServerError: on entry when it cannot start, with its log; from `check` when it has died.
        RepositoryError: on entry when a config cannot be read or derived, or a version is not what was signed.
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
        """Raise ServerError, with the log, when the process has ended."""
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=1)
            raise ServerError(f"tritonserver {ending(code)}; its log ends:\n{self.log_tail()}")

    def log_tail(self, lines: int = 40) -> str:
        """The last lines of the log."""
        return "\n".join(list(self.log)[-lines:])

    def address(self, protocol: str) -> str:
        """HOST:PORT for "http" or "grpc"."""
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
        assemble_backends(self._backends)
        caretaker = self._exit.enter_context(Caretaker(self._backends, shm_prefix(self._backends), STOP_SECONDS))
        self._process = subprocess.Popen(
            command(options, self._backends, ports, gpu) + load,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Ctrl-C in a terminal reaches us alone; we then stop the server in good order.
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
            if self.options.on_log and line and shown:
                # A terminal that is gone must not end this thread: the server would block on a full pipe.
                with suppress(OSError, ValueError):
                    self.options.on_log(line)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.options.ready_timeout
        # Somebody else's server on the same port would answer for a process of ours that cannot bind it.
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
            self.log.append("tritonserver did not end in time and was killed")
        finally:
            self._end()

    def _end(self) -> None:
        # The stubs share the server's session: none may outlive it, however it ended.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(timeout=1)
        if self._process.stdout:
            self._process.stdout.close()
        for leaked in Path("/dev/shm").glob(f"{shm_prefix(self._backends)}*"):
            leaked.unlink(missing_ok=True)


def without_usage(lines: Iterable[str]) -> Iterator[str]:
    """A log without the 380 lines of options that tritonserver prints around the one about the flag that is wrong."""
    usage = False
    for line in lines:
        usage = line.startswith("Usage: tritonserver") or (usage and (not line or line[0].isspace() or line[-1] == ":"))
        if not usage:
            yield line


def prepare_repository(options: Options, gpu: bool) -> list[str]:
    """Derive the CPU configs where they will be served, and choose what to load; returns tritonserver's flags for it.

    Triton would end over a folder without a version, so only models that have one are named; the others are logged.
    Whoever passes a --model-control-mode chooses for himself.

    Raises:
        ServerError: the repository is empty, or no model in it has a version.
        SignatureError: with a public key, a version is not what was signed.
    """
    models = model_names(options.repository)
    if not models:
        raise ServerError(f"{options.repository} holds no model (no <model>/config.pbtxt); give another --repository")
    built = [model for model in models if versions(model, options.repository)]
    # Only those that can be loaded: the repository may be mounted read-only, and publishing writes the config too.
    if not gpu:
        for model in built:
            write_cpu_config(model, options.repository)
    refuse_unproven(built, options.public_key, options.repository, options.flags)
    if any(flag.startswith("--model-control-mode") for flag in options.flags):
        return []
    unbuilt = [model for model in models if model not in built]
    missing = f"no version of {', '.join(unbuilt)} in {options.repository}; `python -m tools.export NAME` makes one"
    if not built:
        raise ServerError(f"{missing}, `make build` all that are served by default")
    if unbuilt and options.on_log:
        options.on_log(f"not served: {missing}")
    return ["--model-control-mode=explicit", *(f"--load-model={model}" for model in built)]


def shm_prefix(backends: Path) -> str:
    """Prefix of this server's shared-memory regions, its own so that it can clean up after itself."""
    return f"{backends.name}_"


def command(options: Options, backends: Path, ports: Sequence[int], gpu: bool) -> list[str]:
    """The tritonserver command line."""
    wheel = wheel_path("pytriton") / "tritonserver"
    http, grpc, metrics = ports
    line = [
        str(wheel / "bin" / "tritonserver"),
        f"--model-repository={options.repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={wheel / 'caches'}",
        f"--http-address={options.host}",
        f"--http-port={http}",
        f"--grpc-address={options.host}",
        f"--grpc-port={grpc}",
        f"--metrics-address={options.host}",
        f"--metrics-port={metrics}",
        f"--exit-timeout-secs={STOP_SECONDS}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix(backends)}",
        # The configs are complete; guessing what is missing would load every model twice.
        "--disable-auto-complete-config",
        f"--log-info={str(options.verbose).lower()}",
    ]
    cpu = [f"--model-config-name={CPU_CONFIG}", "--pinned-memory-pool-byte-size=0", "--allow-gpu-metrics=false"]
    return line + ([] if gpu else cpu) + list(options.flags)


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
