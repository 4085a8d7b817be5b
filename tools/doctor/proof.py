"""Apply changes to an embedded server, one by one, and measure each before and after in turns.

Nothing is written into the repository: a changed config is sent with the load request. The callers are as many as were
seen, and wait for their answers; where a response cache is judged, no input repeats.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from google.protobuf.json_format import ParseDict
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from clients.client import Client
from clients.command import say
from clients.connection import Connection
from clients.errors import ClientError
from loadtest.analysis.bounds import AT_ONCE
from loadtest.analysis.measurement import measure, setting_of
from loadtest.analysis.predict import RATE, Gain
from loadtest.analysis.server_side import ServerSide, observe, server_side
from loadtest.load import closed_loop
from loadtest.options import GeneratorOptions
from tools.cpu_config import derive_cpu_config
from tools.doctor.diagnosis import Diagnosis
from tools.doctor.load import send
from tools.doctor.observation import ModelSeen, Seen
from tools.repository import as_triton_json, model_names
from tools.serve.hardware import use_gpu
from tools.serve.tritonserver import Options, Server

_CACHE = "--cache-config=local,size=67108864"
_WARM_UP_S = 0.2


@dataclass(frozen=True)
class Effort:
    """How a change is measured: before and after in turns, so that a machine that slows down slows both."""

    repository: Path
    hardware: str = "auto"
    rounds: int = 3
    seconds: float = 2.0  # of each measurement


@dataclass(frozen=True)
class Proof:
    """What a change brought, by the medians of the rounds; `problem` says why nothing was measured."""

    model: str
    bound: str
    predicted: Gain | None = None
    measured: Gain | None = None
    problem: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON."""
        gains = {"predicted": self.predicted, "measured": self.measured}
        return asdict(self) | {f"{name}_factor": gain and round(gain.factor, 2) for name, gain in gains.items()}


def prove(changes: Sequence[Diagnosis], servers: Sequence[Seen], effort: Effort) -> list[Proof]:
    """Measure each change of settings or callers; raises ServerError if no server starts on the repository."""
    seen = {(seen.url, model.name): model for seen in servers for model in seen.models}
    present = {one: seen[one.url, one.model] for one in changes if one.model in model_names(effort.repository)}
    proofs = {one: Proof(one.model, one.finding.bound, problem="no change of a model's settings") for one in changes}
    possible = {one: model for one, model in present.items() if _changed(one, model, effort)}
    if possible:
        with _served({model.name: model for model in possible.values()}, effort) as client:
            proofs |= {one: _prove(client, one, model, effort) for one, model in possible.items()}
    return [proofs[one] for one in changes]


@contextmanager
def _served(models: Mapping[str, ModelSeen], effort: Effort) -> Iterator[Client]:
    has_cache = any(model.config.get("response_cache", {}).get("enable") for model in models.values())
    flags = ["--model-control-mode=explicit", *(f"--load-model={name}" for name in models), *[_CACHE] * has_cache]
    options = Options(effort.repository.resolve(), hardware=effort.hardware, flags=flags)
    with Server(options) as server, Client(Connection("http", server.http)) as client:
        yield client


def _config(model: ModelSeen, effort: Effort) -> ModelConfig:
    config = ParseDict(model.config, ModelConfig(), ignore_unknown_fields=True)
    return config if use_gpu(effort.hardware) else derive_cpu_config(config)


def _changed(change: Diagnosis, model: ModelSeen, effort: Effort) -> ModelConfig | None:
    """The model's config with the change; None where it is not one of settings or callers."""
    config = _config(model, effort)
    match change.finding.bound:
        case "queue delay":
            config.dynamic_batching.max_queue_delay_microseconds = 0
        case "preferred sizes":
            del config.dynamic_batching.preferred_batch_size[:]
        case "batching":
            config.dynamic_batching.SetInParent()
        case "instances":
            group = config.instance_group[0] if config.instance_group else config.instance_group.add()
            group.kind, group.count = group.kind or ModelInstanceGroup.KIND_AUTO, max(1, group.count) + 1
        case "too many instances":
            config.instance_group[0].count = os.cpu_count() or 1
        case "response cache":
            config.response_cache.enable = False
        case bound:
            return config if bound == "callers in turn" else None
    return config


def _prove(client: Client, change: Diagnosis, model: ModelSeen, effort: Effort) -> Proof:
    bound, predicted = change.finding.bound, change.finding.predicted
    figure, configs = predicted.figure if predicted else RATE, (_config(model, effort), _changed(change, model, effort))
    callers = (change.callers, AT_ONCE if bound == "callers in turn" else change.callers)
    figures: tuple[list[float], list[float]] = ([], [])
    try:
        for number in range(2 * effort.rounds):
            side = number % 2
            say(f"{model.name}: {bound}, {('before', 'after')[side]}, round {number // 2 + 1} of {effort.rounds}")
            client.unload(model.name)
            client.load(model.name, as_triton_json(configs[side]))
            send(client, model.name, 1, _WARM_UP_S)
            server = _measured(client, model, callers[side], bound, effort.seconds)
            figures[side].append(server.rps if figure == RATE else server.time_us or 0.0)
    except ClientError as error:
        return Proof(model.name, bound, predicted, problem=str(error))
    before, after = map(median, figures)
    return Proof(model.name, bound, predicted, Gain(figure, before, after, f"medians of {effort.rounds} round(s)"))


def _measured(client: Client, model: ModelSeen, callers: int, bound: str, seconds: float) -> ServerSide:
    if bound != "response cache":
        setting = setting_of(client, model.name, GeneratorOptions(warm_up_s=0.0))
        return measure(client, setting, closed_loop(callers, seconds), []).server
    before, began = observe(client), time.monotonic()
    send(client, model.name, 1, seconds)
    return server_side(before, observe(client), model.config, time.monotonic() - began)
