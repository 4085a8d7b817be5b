"""The configs that the tuner chooses from: which settings may change, and how to write them into a config.

Nothing that callers see changes, except `max_batch_size`: with a smaller one, larger requests are refused.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from clients.errors import ToolError

_THREADS = "INTRA_OP_THREAD_COUNT"
_DELAYS_US = (0, 200, 1000, 5000, 20_000, 100_000)
_DELAY_SHARES = (0.001, 0.5)  # of the latency limit; a shorter delay changes nothing, a longer one leaves no time
_SIZE_SHARES = (1, 4, 16)  # max_batch_size is divided by these
_MAX_INSTANCES = 8


class TuningError(ToolError):
    """The model or the options do not allow a tuning; the message names the remedy."""


@dataclass(frozen=True, order=True)
class Deployment:
    """Instances (per device on a GPU) and the CPU threads of each forward pass; 0 threads leaves them to torch."""

    instances: int
    threads: int


@dataclass(frozen=True, order=True)
class Candidate:
    """One combination of settings; without preferred sizes, a free instance takes all queued requests."""

    deployment: Deployment
    max_batch_size: int
    delay_us: int
    preferred: tuple[int, ...] = ()  # batch sizes, ascending

    def label(self) -> str:
        """Describe the settings in a few words."""
        preferred = f", preferred {', '.join(map(str, self.preferred))}" if self.preferred else ""
        instances, threads = self.deployment.instances, self.deployment.threads
        return f"batch {self.max_batch_size}{preferred}, delay {self.delay_us} µs, {instances} inst. x {threads} thr."


# One candidate for each of the models that share a server.
Plan = tuple[Candidate, ...]


def candidate_from(document: dict[str, Any]) -> Candidate:
    """Read a candidate from JSON."""
    deployment = Deployment(**document["deployment"])
    return Candidate(deployment, document["max_batch_size"], document["delay_us"], tuple(document["preferred"]))


def candidate_of(config: ModelConfig) -> Candidate:
    """Read the settings of a config.

    Raises:
        TuningError: the config has no dynamic batching.
    """
    if not config.HasField("dynamic_batching") or config.max_batch_size < 1:
        raise TuningError(
            f"{config.name}: expected a config with max_batch_size of 1 or more and dynamic_batching, which are tuned; "
            "tune the members of an ensemble instead"
        )
    batching = config.dynamic_batching
    instances = sum(group.count or 1 for group in config.instance_group) or 1
    threads = config.parameters[_THREADS].string_value if _THREADS in config.parameters else ""
    preferred = tuple(sorted(batching.preferred_batch_size))
    if preferred == (config.max_batch_size,):  # Triton's default where the config names none.
        preferred = ()
    deployment = Deployment(instances, int(threads) if threads.isdigit() else 0)
    return Candidate(deployment, config.max_batch_size, batching.max_queue_delay_microseconds, preferred)


def apply_candidate(candidate: Candidate, config: ModelConfig) -> ModelConfig:
    """Return a copy of a config with the candidate's settings."""
    changed = ModelConfig()
    changed.CopyFrom(config)
    changed.max_batch_size = candidate.max_batch_size
    changed.dynamic_batching.max_queue_delay_microseconds = candidate.delay_us
    del changed.dynamic_batching.preferred_batch_size[:]
    changed.dynamic_batching.preferred_batch_size.extend(candidate.preferred)
    del changed.instance_group[1:]
    if not changed.instance_group:
        changed.instance_group.add(kind=ModelInstanceGroup.KIND_AUTO)
    changed.instance_group[0].count = candidate.deployment.instances
    if candidate.deployment.threads:
        changed.parameters[_THREADS].string_value = str(candidate.deployment.threads)
    for warmup in changed.model_warmup:
        warmup.batch_size = min(warmup.batch_size, candidate.max_batch_size)
    return changed


def deployments(cores: int, gpu: bool) -> list[Deployment]:
    """Combinations of instances and threads that fit the cores; on a GPU only instances vary.

    Those that use most cores come first, those with more instances before those with more threads, because there may
    not be time for all. More threads than cores are left out: they spin while waiting for each other, which
    lengthens the tail latency a hundredfold on two busy cores.
    """
    counts = [2**power for power in range(8)]
    if gpu:
        return [Deployment(count, 1) for count in counts if count <= _MAX_INSTANCES]
    fitting = [Deployment(count, threads) for count, threads in product(counts, counts) if count * threads <= cores]
    return sorted(fitting, key=lambda deployment: (-deployment.instances * deployment.threads, deployment.threads))


def grid(base: Candidate, among: list[Deployment], limit_ms: float, least_batch: int = 1) -> list[Candidate]:
    """Every deployment with the committed max_batch_size, a quarter and a sixteenth of it, and with several delays.

    The committed settings come first, then the largest batches without a delay, because there may not be time for all.
    The model was proven up to the committed max_batch_size.
    """
    most, (least, longest) = base.max_batch_size, (1000 * share * limit_ms for share in _DELAY_SHARES)
    sizes = dict.fromkeys(max(least_batch, most // share) for share in _SIZE_SHARES)
    delays = [delay for delay in _DELAYS_US if not delay or least <= delay <= longest]
    settings = product(sizes, delays, among)
    return list(dict.fromkeys([base, *(Candidate(deployment, size, delay) for size, delay, deployment in settings)]))
