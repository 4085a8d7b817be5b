"""Models on a server in explicit mode, where each can be reloaded with new settings and measured.

The server is an embedded one, or a running one with --model-control-mode=explicit, which gets its configs back at the
end. Nothing is written into its repository: a config is sent with the load request.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.json_format import ParseDict
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from clients.client import Client
from clients.connection import Connection
from clients.statistics import counted
from loadtest import slo
from loadtest.analysis.measurement import Setting, measure, setting_of
from loadtest.analysis.peak_search import trial_seconds
from loadtest.analysis.result import RunResult
from loadtest.load import Load, closed_loop, open_loop
from tools.cpu_config import derive_cpu_config
from tools.repository import RepositoryError, as_triton_json, read_config, versions
from tools.serve.hardware import use_gpu
from tools.serve.tritonserver import Options, Server
from tools.tune.candidates import Candidate, TuningError, apply_candidate, candidate_of
from tools.tune.goal import Goal
from tools.tune.options import TuneOptions
from tools.tune.trials import Trial, trial_of

_EXPLICIT = "--model-control-mode=explicit"
_WARM_UP_CALLERS, _WARM_UP_S = 16, 0.6
# Requests time out after so many latency limits, so that an overloaded server does not take the time of ten trials.
_SHORTEST_TIMEOUT_S, _PATIENCE = 1.0, 5.0
_WATCHED_S = 2.0  # whether others send requests to a running server


@dataclass(frozen=True)
class ServedModel:
    """A model that is being tuned."""

    name: str
    client: Client
    config: ModelConfig  # the committed one, for the kind of instances that there are
    server: Server | None  # the embedded one; None for a running one
    setting: Setting  # payload and generator of its trials
    objectives: list[slo.Objective]  # that a trial must meet
    trial_s: float  # of the shortest trial

    @property
    def committed(self) -> Candidate:
        """The settings of the committed config."""
        return candidate_of(self.config)

    @property
    def gpu(self) -> bool:
        """Whether instances are on a GPU."""
        return any(group.kind == ModelInstanceGroup.KIND_GPU for group in self.config.instance_group)

    def load(self, candidate: Candidate) -> None:
        """Reload the model with new settings; returns when it is ready.

        Raises:
            ClientError: the server does not load it.
        """
        self._check()
        # Unloaded first: instances with both settings would take twice the memory, and compete for the processors.
        self.client.unload(self.name)
        self.client.load(self.name, as_triton_json(apply_candidate(candidate, self.config)))

    def warm_up(self) -> None:
        """Send some requests unless loading did: TorchScript specializes itself for the shapes that it sees first."""
        if self.config.model_warmup:
            return
        setting = replace(self.setting, options=replace(self.setting.options, warm_up_s=0.0))
        measure(self.client, setting, closed_loop(_WARM_UP_CALLERS, _WARM_UP_S), [])

    def trial_seconds(self, rate: float) -> float:
        """How long a trial must last for the percentiles of the objectives."""
        return trial_seconds(rate, self.trial_s, self.objectives)

    def open_trial(self, rate: float, number: int, seconds: float | None = None) -> Trial:
        """Send Poisson arrivals; each number has its own schedule."""
        lasting = self.trial_seconds(rate) if seconds is None else seconds
        return trial_of(self._measure(open_loop("poisson", rate, lasting, self.setting.options.seed + number)))

    def closed_rate(self, callers: int, seconds: float) -> float:
        """Requests per second from callers who wait for each answer."""
        # The server's own count holds even where the generator was the bottleneck.
        return max(1.0, self._measure(closed_loop(callers, seconds)).server.counted.requests / seconds)

    def _measure(self, load: Load) -> RunResult:
        self._check()
        return measure(self.client, self.setting, load, self.objectives)

    def _check(self) -> None:
        if self.server:
            self.server.check()


@contextmanager
def serve_models(models: list[str], options: TuneOptions, goal: Goal) -> Iterator[list[ServedModel]]:
    """Serve models for tuning, on a running server or an embedded one.

    Raises:
        RepositoryError: a model does not exist or has no version.
        TuningError: a model has no dynamic batching, or others use the running server.
        ServerError: the embedded server does not start.
        ClientError: the running server does not answer, or has no such model.
    """
    with ExitStack() as serving:
        client, server, configs = (_running if options.url else _embedded)(models, options, serving)
        limit_s = (slo.goodput_limit_ms(goal.objectives) or 0.0) / 1000
        timeout_s = min(client.connection.timeout_s, max(_SHORTEST_TIMEOUT_S, _PATIENCE * limit_s))
        served = []
        for name, config in zip(models, configs, strict=True):
            setting = setting_of(client, name, options.generator)
            setting = replace(setting, connection=replace(setting.connection, timeout_s=timeout_s))
            served.append(ServedModel(name, client, config, server, setting, goal.objectives, options.trial_s))
        yield served


_Serving = tuple[Client, Server | None, list[ModelConfig]]  # as `ServedModel` holds them


def _running(models: list[str], options: TuneOptions, serving: ExitStack) -> _Serving:
    client = serving.enter_context(Client(options.connection))
    if not options.disturb:
        _refuse_other_callers(client)
    configs = [ParseDict(client.config(name), ModelConfig(), ignore_unknown_fields=True) for name in models]
    for config in configs:
        candidate_of(config)
    for name in reversed(models):
        serving.callback(client.load, name)
    return client, None, configs


def _embedded(models: list[str], options: TuneOptions, serving: ExitStack) -> _Serving:
    repository, gpu = options.repository.resolve(), use_gpu(options.hardware)
    configs = [base_config(name, repository, gpu) for name in models]
    for name, config in zip(models, configs, strict=True):
        candidate_of(config)
        if not versions(name, repository):
            raise RepositoryError(f"{name} has no version; run `python -m tools.export {name}`")
    flags = (_EXPLICIT, *(f"--load-model={name}" for name in models))
    server = serving.enter_context(Server(Options(repository, hardware="gpu" if gpu else "cpu", flags=flags)))
    protocol = options.connection.protocol
    connection = Connection(protocol, server.address(protocol), options.connection.timeout_s, retries=0)
    return serving.enter_context(Client(connection)), server, configs


def _refuse_other_callers(client: Client) -> None:
    before = _requests(client)
    time.sleep(_WATCHED_S)
    others = {name: count - before.get(name, 0) for name, count in _requests(client).items()}
    if callers := ", ".join(f"{count} of {name}" for name, count in others.items() if count > 0):
        raise TuningError(
            f"others use the server at {client.connection.url} (requests within {_WATCHED_S:g} s: {callers}); each "
            "choice is tried by unloading the model, so that they get 404 for seconds, and then share the server with "
            "the load of the trial; tune without --url, or on a server of its own, or add --disturb"
        )


def _requests(client: Client) -> Counter[str]:
    """Requests so far by model, answered or not."""
    requests: Counter[str] = Counter()
    for entry in client.statistics():
        seen = counted(entry)
        requests[entry["name"]] += seen.requests + seen.failures
    return requests


def base_config(model: str, repository: Path, gpu: bool) -> ModelConfig:
    """The committed config for the kind of instances that there are, without any earlier tuning."""
    config = read_config(model, repository=repository)
    return config if gpu else derive_cpu_config(config)
