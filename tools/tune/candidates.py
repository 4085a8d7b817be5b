"""The configs that a tuner chooses from: what of a model's config may change, and how a choice is written into it.

What callers see stays as it is, but for `max_batch_size`: a smaller one refuses requests of more inferences.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from clients.errors import ToolError

THREADS = "INTRA_OP_THREAD_COUNT"
DELAYS_US = (0, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 10_000, 20_000, 50_000)
# Of the time that an answer may take, waiting for company takes this much at the most.
DELAY_SHARE = 0.5
MOST_INSTANCES = 8


class TuningError(ToolError):
    """A model cannot be tuned so; the message names what was expected and the remedy."""


@dataclass(frozen=True, order=True)
class Deployment:
    """Who computes: instances (per device on a GPU), and the CPU threads of one forward."""

    instances: int
    threads: int


@dataclass(frozen=True, order=True)
class Candidate:
    """One choice.

    Attributes:
        max_batch_size: the most inferences of one execution.
        delay_us: how long the oldest request may wait for others, in microseconds.
        preferred: preferred batch sizes, rising; empty: as soon as an instance is free, all that wait.
    """

    deployment: Deployment
    max_batch_size: int
    delay_us: int
    preferred: tuple[int, ...] = ()

    def label(self) -> str:
        """In a few words."""
        preferred = f", preferred {', '.join(map(str, self.preferred))}" if self.preferred else ""
        instances, threads = self.deployment.instances, self.deployment.threads
        return f"batch {self.max_batch_size}{preferred}, delay {self.delay_us} µs, {instances} inst. x {threads} thr."

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def plain(base: Candidate, deployment: Deployment) -> Candidate:
    """What a deployment is calibrated with: the largest batches, no delay, no preference."""
    return Candidate(deployment, base.max_batch_size, 0)


def candidate_from(document: dict[str, Any]) -> Candidate:
    """The choice that a document describes."""
    deployment = Deployment(**document["deployment"])
    return Candidate(deployment, document["max_batch_size"], document["delay_us"], tuple(document["preferred"]))


def candidate_of(config: ModelConfig) -> Candidate:
    """The choice that a config has made.

    Raises:
        TuningError: it has no dynamic batching, which is what is tuned here.
    """
    if not config.HasField("dynamic_batching") or config.max_batch_size < 1:
        raise TuningError(
            f"{config.name}: expected a config with max_batch_size of 1 or more and dynamic_batching, which is what is "
            "tuned; ensembles and sequence models are tuned through their members"
        )
    batching = config.dynamic_batching
    preferred = tuple(sorted(batching.preferred_batch_size))
    return Candidate(
        Deployment(sum(group.count or 1 for group in config.instance_group) or 1, threads_of(config)),
        config.max_batch_size,
        batching.max_queue_delay_microseconds,
        # What Triton fills in where a config says nothing.
        () if preferred == (config.max_batch_size,) else preferred,
    )


def threads_of(config: ModelConfig) -> int:
    """Threads of one forward; 0 where the config leaves them to torch."""
    text = config.parameters[THREADS].string_value if THREADS in config.parameters else ""
    return int(text) if text.isdigit() else 0


def applied(candidate: Candidate, config: ModelConfig) -> ModelConfig:
    """A copy of a config with a choice written into it."""
    changed = ModelConfig()
    changed.CopyFrom(config)
    changed.max_batch_size = candidate.max_batch_size
    changed.dynamic_batching.max_queue_delay_microseconds = candidate.delay_us
    del changed.dynamic_batching.preferred_batch_size[:]
    changed.dynamic_batching.preferred_batch_size.extend(candidate.preferred)
    set_instances(changed, candidate.deployment.instances)
    if candidate.deployment.threads:
        changed.parameters[THREADS].string_value = str(candidate.deployment.threads)
    for warmup in changed.model_warmup:
        warmup.batch_size = min(warmup.batch_size, candidate.max_batch_size)
    return changed


def set_instances(config: ModelConfig, count: int) -> None:
    """One group of so many instances in place of all groups of its kind."""
    del config.instance_group[1:]
    if not config.instance_group:
        config.instance_group.add(kind=ModelInstanceGroup.KIND_AUTO)
    config.instance_group[0].count = count


def deployments(cores: int, gpu: bool) -> list[Deployment]:
    """Instances and threads that share the cores without exceeding them; on a GPU threads matter not.

    Those that use most cores come first, and of these the ones with most instances: there may not be time for all. More
    threads than cores spin while they wait for each other: on two busy cores the tail grows a hundredfold.
    """
    counts = [2**power for power in range(8)]
    if gpu:
        return [Deployment(count, 1) for count in counts if count <= MOST_INSTANCES]
    fitting = [Deployment(one, other) for one, other in product(counts, counts) if one * other <= cores]
    return sorted(fitting, key=lambda one: (-one.instances * one.threads, one.threads))


def batch_sizes(least: int, most: int) -> list[int]:
    """Powers of two from `least` on, and the largest."""
    return sorted({*(2**power for power in range(20) if least <= 2**power < most), most})


def space(base: Candidate, among: list[Deployment], limit_ms: float, least_batch: int) -> list[Candidate]:
    """All choices: every max_batch_size, delay and preferred size with every deployment; the present one is among them.

    Args:
        base: the present choice; its max_batch_size is the most that the model was proven with.
        among: deployments.
        limit_ms: what an answer may take.
        least_batch: the most inferences that callers put into one request.
    """
    found = {base}
    for deployment, size in product(among, batch_sizes(least_batch, base.max_batch_size)):
        for delay in fitting_delays(limit_ms):
            found |= {Candidate(deployment, size, delay, preferred) for preferred in preferences(size)}
    return sorted(found)


def fitting_delays(limit_ms: float) -> list[int]:
    """Delays that leave time for the answer."""
    return [delay for delay in DELAYS_US if delay <= 1000 * DELAY_SHARE * limit_ms]


def preferences(size: int) -> Iterator[tuple[int, ...]]:
    """No preferred size, or one of the powers of two below the largest."""
    yield ()
    for preferred in batch_sizes(2, size)[:-1]:
        yield (preferred,)
