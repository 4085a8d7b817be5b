"""How tritonserver is launched: options, the models to load, the command line."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from tools.cpu_config import write_cpu_config
from tools.repository import CPU_CONFIG, REPOSITORY, RepositoryError, model_names, read_config, versions
from tools.serve.server_error import ServerError
from tools.serve.wheel import refuse_without_libpython, wheel_path
from tools.sign.signatures import refuse_unproven

LOCALHOST = "127.0.0.1"
# Triton 2.51 parses JSON and chunks recursively on thread stacks of this size; with the usual 8 MB, JSON that is nested
# 50,000 deep and bodies of a million chunks end the process. Where the limit cannot be raised it stays.
WITH_DEEP_STACKS = ("sh", "-c", 'ulimit -s 524288 2>/dev/null; exec "$@"', "tritonserver")
STOP_SECONDS = 10  # for running requests, after SIGTERM


@dataclass(frozen=True)
class Options:
    """What to serve, and where.

    Attributes:
        http_port, grpc_port, metrics_port: 0 for any free port.
        hardware: one of `HARDWARE`.
        ready_timeout: seconds until the server must be ready.
        verbose: pass on every line of the log.
        flags: further flags of tritonserver.
        public_key: serve only what was signed with the private key that belongs to it.
        backend: one of `BACKENDS`: what serves TorchScript.
        is_lenient: serve the other models where one does not load.
        auto_complete: let backends complete configs, as Triton does by default; loads Python models twice.
        on_log: called with each line of the log.
    """

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
    backend: str = "auto"
    is_lenient: bool = False
    auto_complete: bool = False
    on_log: Callable[[str], None] | None = field(default=None, compare=False)


def every_model(repository: Path) -> list[str]:
    """Names of the repository's models; raises ServerError if there is none."""
    models = model_names(repository)
    if not models:
        raise ServerError(f"{repository} holds no model (no <model>/config.pbtxt); give another --repository")
    return models


def prepare_repository(options: Options, gpu: bool) -> tuple[list[str], dict[str, str]]:
    """Derive the CPU configs that will be served, and choose the models to load.

    Triton exits if a model folder has no version, so only models with a version are named; the others are logged. If
    the flags include a --model-control-mode, the caller chooses.

    Returns:
        Flags for tritonserver, and why models are left out whose config cannot be used, by name, if it is lenient.

    Raises:
        ServerError: the repository is empty, or no model in it has a version.
        SignatureError: with a public key, a version is not what was signed.
    """
    models = every_model(options.repository)
    built = [model for model in models if versions(model, options.repository)]
    failures = {model: failure for model in built if (failure := _config_failure(model, options, gpu))}
    built = [model for model in built if model not in failures]
    refuse_unproven(built, options.public_key, options.repository, options.flags)
    if any(flag.startswith("--model-control-mode") for flag in options.flags):
        return [], failures
    _report_unbuilt(options, models, built)
    load = _servable(options, built)
    return ["--model-control-mode=explicit", *(f"--load-model={model}" for model in load)], failures


def _config_failure(model: str, options: Options, gpu: bool) -> str:
    """Bring a model's config up to date; why that fails, where the other models are to be served nevertheless."""
    try:
        # Publishing writes this config too, so a read-only repository usually has it.
        read_config(model, repository=options.repository) if gpu else write_cpu_config(model, options.repository)
    except RepositoryError as error:
        if not options.is_lenient:
            raise
        return f"{model} version {versions(model, options.repository)[-1]} does not load: {error}"
    return ""


def _servable(options: Options, built: Sequence[str]) -> list[str]:
    """Leave out models whose backend is not there, and ensembles of them: one that fails to load ends the server."""
    configs = {model: read_config(model, repository=options.repository) for model in built}
    # What the wheel brings and what is ours; an older config names a platform, such as onnxruntime_onnx.
    there = {"", "ensemble", "python", "pytorch", *(["vllm"] if find_spec("openvino_genai") else [])}
    backends = {model: config.backend or config.platform.partition("_")[0] for model, config in configs.items()}
    if {"python", "vllm"} & set(backends.values()):
        refuse_without_libpython()
    lacking = {backend for backend in backends.values() if backend not in there}
    left = {model for model in built if backends[model] in lacking}
    if not left or any(flag.startswith("--backend-directory") for flag in options.flags):
        return list(built)
    steps = {name: {step.model_name for step in config.ensemble_scheduling.step} for name, config in configs.items()}
    while more := {name for name in built if steps[name] & left} - left:
        left |= more
    remedy = "; `make lm` or `pip install openvino-genai` installs vllm" if "vllm" in lacking else ""
    words = f"{', '.join(sorted(left))}: no backend {', '.join(sorted(lacking))} in this server{remedy}"
    if left == set(built):
        raise ServerError(words)
    if options.on_log:
        options.on_log(f"not served: {words}")
    return [model for model in built if model not in left]


def _report_unbuilt(options: Options, models: Sequence[str], built: Sequence[str]) -> None:
    unbuilt = [model for model in models if model not in built]
    if not unbuilt:
        return
    missing = f"no version of {', '.join(unbuilt)} in {options.repository}"
    remedy = "`python -m tools.export NAME` makes one by a recipe"
    if not built:
        place = f"put a model's file into {unbuilt[0]}/1"
        raise ServerError(f"{missing}; {place}; {remedy}, with --missing all that are served by default")
    if options.on_log:
        options.on_log(f"not served: {missing}; {remedy}")


def otlp_flags(endpoint: str) -> list[str]:
    """Flags with which Triton sends the stages of every request that comes with a `traceparent` to an OTLP receiver."""
    # Rate 0: the caller decides which requests are traced, so that a trace never begins in the middle.
    settings = (
        "mode=opentelemetry",
        f"opentelemetry,url={endpoint.rstrip('/')}/v1/traces",
        "level=TIMESTAMPS",
        "rate=0",
    )
    return [f"--trace-config={setting}" for setting in settings]


def shm_prefix(backends: Path) -> str:
    """Name the prefix of this server's shared-memory regions, so that it can clean up after itself."""
    return f"{backends.name}_"


def command_line(options: Options, backends: Path, ports: Sequence[int], gpu: bool) -> list[str]:
    """Build the command line of tritonserver.

    Args:
        options: what to serve; the host is a numeric address, the repository's path one without blanks.
        backends: the --backend-directory.
        ports: of HTTP, gRPC and metrics.
        gpu: serve config.pbtxt as it stands, not configs/cpu.pbtxt.
    """
    wheel = wheel_path("pytriton") / "tritonserver"
    http, grpc, metrics = ports
    # The HTTP servers take an IPv6 address in a form of their own.
    http_host = f"ipv6:{options.host.strip('[]')}" if ":" in options.host else options.host
    line = [
        *WITH_DEEP_STACKS,
        str(wheel / "bin" / "tritonserver"),
        f"--model-repository={options.repository}",
        f"--backend-directory={backends}",
        f"--cache-directory={wheel / 'caches'}",
        f"--http-address={http_host}",
        f"--http-port={http}",
        f"--grpc-address={options.host}",
        f"--grpc-port={grpc}",
        f"--metrics-address={http_host}",
        f"--metrics-port={metrics}",
        f"--exit-timeout-secs={STOP_SECONDS}",
        f"--backend-config=python,shm-region-prefix-name={shm_prefix(backends)}",
        f"--log-info={str(options.verbose).lower()}",
    ]
    cpu = [f"--model-config-name={CPU_CONFIG}", "--pinned-memory-pool-byte-size=0", "--allow-gpu-metrics=false"]
    lenient = ["--exit-on-error=false"] if options.is_lenient else []
    # Our configs are complete; auto-complete would load every model twice.
    complete = [] if options.auto_complete else ["--disable-auto-complete-config"]
    return line + ([] if gpu else cpu) + lenient + complete + list(options.flags)
