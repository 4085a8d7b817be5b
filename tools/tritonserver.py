"""The embedded tritonserver as a process: put together, started, watched, stopped.

    with Server(Options(repository)) as server:
        requests.get(f"http://{server.http}/v2/health/ready")

The binary comes from the `nvidia-pytriton` wheel. Every fact about how that wheel is laid out is in this module.
"""

import ctypes
import errno
import http.client
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tools.caretaker import Caretaker
from tools.repository import CPU_CONFIG, REPOSITORY, model_names, versions, write_cpu_config

HARDWARE = ("auto", "cpu", "gpu")
LOCALHOST = "127.0.0.1"
STOP_SECONDS = 10
# Lines that say nothing on a host without a GPU but look like trouble to a newcomer.
NOISE = (
    "CudaDriverHelper",
    "unable to create stream for",
    "pinned system memory",
    "CUDA memory pool disabled",
    "Signal (15) received",
    "torch.quantize_per_tensor",  # torch's notice, at each load of an int8 model, that it means to remove the operator
)
PYTORCH_BACKEND = Path(__file__).parent / "backends" / "pytorch"


class ServerError(Exception):
    """The embedded server cannot start, or died; the message holds the end of its log."""


@dataclass(frozen=True)
class Options:
    """What to serve and where; port 0 means any free one."""

    repository: Path = REPOSITORY
    host: str = LOCALHOST
    http_port: int = 0
    grpc_port: int = 0
    metrics_port: int = 0
    hardware: str = "auto"
    ready_timeout: float = 120.0
    verbose: bool = False
    flags: Sequence[str] = ()
    on_log: Callable[[str], None] | None = field(default=None, compare=False)


class Server:
    """A running tritonserver, from `with` to the end of its block.

    Attributes:
        http, grpc, metrics: HOST:PORT to connect to.

    Raises:
        ServerError: on entry when it cannot start, with its log; from `check` when it has died.
        RepositoryError: on entry when a config cannot be read or derived.
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
        ports = choose_ports(options)
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


def use_gpu(hardware: str) -> bool:
    """Whether to serve config.pbtxt as it stands (KIND_GPU) instead of configs/cpu.pbtxt.

    Raises:
        ServerError: a GPU is asked for and none can be used.
    """
    if hardware == "cpu":
        return False
    missing = why_no_gpu()
    if hardware == "gpu" and missing:
        raise ServerError(f"--hardware gpu: {missing}; use --hardware cpu, or a host with a GPU")
    return missing is None


def why_no_gpu() -> str | None:
    """The reason why models cannot run on a GPU here, or None when they can; torch is not imported for it."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1) is installed"
    devices = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(devices)) != 0 or devices.value == 0:
        return "the NVIDIA driver sees no GPU"
    build = importlib.metadata.version("torch")
    return f"torch {build} is a CPU build" if build.endswith("+cpu") else None


def prepare_repository(options: Options, gpu: bool) -> list[str]:
    """Derive the CPU configs where they will be served, and choose what to load; returns tritonserver's flags for it.

    Triton would end over a folder without a version, so only models that have one are named; the others are logged.
    Whoever passes a --model-control-mode chooses for himself.

    Raises:
        ServerError: the repository is empty, or no model in it has a version.
    """
    models = model_names(options.repository)
    if not models:
        raise ServerError(f"{options.repository} holds no model (no <model>/config.pbtxt); give another --repository")
    built = [model for model in models if versions(model, options.repository)]
    # Only those that can be loaded: the repository may be mounted read-only, and publishing writes the config too.
    if not gpu:
        for model in built:
            write_cpu_config(model, options.repository)
    if any(flag.startswith("--model-control-mode") for flag in options.flags):
        return []
    unbuilt = [model for model in models if model not in built]
    missing = f"no version of {', '.join(unbuilt)} in {options.repository}; `python -m tools.export NAME` makes one"
    if not built:
        raise ServerError(f"{missing}, `make build` all that are served by default")
    if unbuilt and options.on_log:
        options.on_log(f"not served: {missing}")
    return ["--model-control-mode=explicit", *(f"--load-model={model}" for model in built)]


def choose_ports(options: Options) -> list[int]:
    """The three ports, free ones in place of zeros; held together while they are chosen, so that they differ.

    Raises:
        ServerError: a port is taken.
    """
    names = ("http", "grpc", "metrics")
    wanted = (options.http_port, options.grpc_port, options.metrics_port)
    given = [port for port in wanted if port]
    if len(set(given)) < len(given):
        raise ServerError("--http-port, --grpc-port and --metrics-port must differ; got " + ", ".join(map(str, wanted)))
    with ExitStack() as held:
        return [
            held.enter_context(bind(options.host, port, name)).getsockname()[1]
            for name, port in zip(names, wanted, strict=True)
        ]


def bind(host: str, port: int, name: str) -> socket.socket:
    """A socket that holds a port."""
    if not 0 <= port <= 65535:
        raise ServerError(f"--{name}-port {port} is no port; give 1 to 65535, or 0 for any free one")
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((host, port))
    except OSError as error:
        holder.close()
        remedy = f"choose another with --{name}-port, 0 for any free one"
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            remedy = "give an IPv4 address of this host with --host, 0.0.0.0 for all of them"
        raise ServerError(f"cannot listen on {host}:{port} ({error.strerror}); {remedy}") from error
    return holder


def wheel_path(package: str) -> Path:
    """Folder of an installed package, without importing it.

    Raises:
        ServerError: it is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(f"the Python package {package} is not installed; run `make setup`")
    return Path(spec.submodule_search_locations[0])


def assemble_backends(folder: Path) -> None:
    """Fill a --backend-directory: the wheel's Python backend with this Python's stub, and our pytorch backend.

    Copies, because Triton refuses a backend that is a link out of its folder.
    """
    wheel = wheel_path("pytriton") / "tritonserver"
    stub = wheel / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    if not stub.is_dir():
        known = ", ".join(sorted(path.name for path in stub.parent.iterdir()))
        raise ServerError(f"nvidia-pytriton has no stub for Python {stub.name}; it has {known}")
    python = folder / "python"
    python.mkdir()
    for source in (*(wheel / "backends" / "python").glob("*.*"), stub / "triton_python_backend_stub"):
        shutil.copy2(source, python)
    shutil.copytree(PYTORCH_BACKEND, folder / "pytorch", ignore=shutil.ignore_patterns("__pycache__"))


def environment() -> dict[str, str]:
    """The server's environment: the wheel's libraries, and this Python first for the stubs."""
    libraries = str(wheel_path("pytriton").parent / "nvidia_pytriton.libs")
    paths = {"LD_LIBRARY_PATH": libraries, "PATH": str(Path(sys.executable).parent)}
    joined = {name: os.pathsep.join(filter(None, (path, os.environ.get(name)))) for name, path in paths.items()}
    return {**os.environ, **joined, "PYTHONDONTWRITEBYTECODE": "1"}


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


def is_ready(address: str) -> bool:
    """Whether a server at HOST:PORT says that it and all its models are ready."""
    # Not urllib's urlopen, which would ask the proxy that the environment may name.
    connection = http.client.HTTPConnection(address, timeout=1)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def port_of(address: str) -> int:
    """The port of HOST:PORT."""
    return int(address.rpartition(":")[2])


def listens(pid: int, port: int) -> bool:
    """Whether this very process, and not another one, listens on a TCP port."""
    try:
        own = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    except OSError:  # It has just ended.
        return False
    listening = "0A"
    return any(
        row[3] == listening and int(row[1].rpartition(":")[2], 16) == port and f"socket:[{row[9]}]" in own
        for row in rows
    )


def ending(code: int) -> str:
    """How a process ended, in words."""
    return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
