"""max_batch_size and the dynamic batcher: preferred sizes, priorities, order, queues."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelQueuePolicy

from tools.check.finding import Finding, Rule
from tools.check.served import Model

NEGATIVE = Rule("max-batch-size", "max_batch_size is negative", "core")
PREFERRED = Rule("preferred-batch-size", "A preferred batch size is below 1 or above max_batch_size", "core")
DEFAULT_PRIORITY = Rule("default-priority", "default_priority_level is not one of the priority levels", "core")
PRIORITY_POLICY = Rule("priority-queue-policy", "priority_queue_policy is set for a level that does not exist", "core")
ORDER_PRIORITY = Rule("preserve-ordering-priority", "preserve_ordering with more than one priority level", "core")
ORDER_DELAY = Rule(
    "preserve-ordering-delay", "preserve_ordering with a queue policy that delays timed-out requests", "core"
)
RULES = (NEGATIVE, PREFERRED, DEFAULT_PRIORITY, PRIORITY_POLICY, ORDER_PRIORITY, ORDER_DELAY)


def check(model: Model) -> Iterator[Finding]:
    """Yield all findings about batch sizes and the dynamic batcher."""
    if model.config.max_batch_size < 0:
        yield NEGATIVE.at(
            model.place("max_batch_size"),
            found=f"max_batch_size: {model.config.max_batch_size}",
            expected="0 for a model without a batch dimension, or the largest batch size",
            remedy="set 0 or more",
        )
    if model.config.HasField("dynamic_batching"):
        batching = model.config.dynamic_batching
        yield from check_preferred(model, batching.preferred_batch_size, "dynamic_batching")
        yield from _check_priorities(model, batching)
        if batching.preserve_ordering:
            yield from _check_order(model, batching)


def check_preferred(model: Model, sizes: Any, *path: str | int) -> Iterator[Finding]:
    """Yield findings about preferred batch sizes of the batcher at a path."""
    largest = model.config.max_batch_size
    for number, size in enumerate(sizes):
        if not 1 <= size <= largest:
            yield PREFERRED.at(
                model.place(*path, "preferred_batch_size", number),
                found=f"preferred_batch_size {size} with max_batch_size {largest}",
                expected=f"1 to {largest}" if largest > 0 else "none, because the model has no batch dimension",
                remedy="remove it" if largest < 1 else "remove it, or raise max_batch_size",
            )


def _check_priorities(model: Model, batching: Any) -> Iterator[Finding]:
    levels = batching.priority_levels
    if not levels:
        return
    if not 1 <= batching.default_priority_level <= levels:
        yield DEFAULT_PRIORITY.at(
            model.place("dynamic_batching", "default_priority_level"),
            found=f"default_priority_level {batching.default_priority_level} with {levels} priority levels",
            expected=f"1 to {levels}",
            remedy="set default_priority_level to one of them",
        )
    for level in batching.priority_queue_policy:
        if not 1 <= level <= levels:
            yield PRIORITY_POLICY.at(
                model.place("dynamic_batching", f"priority_queue_policy[{level}]"),
                found=f"a queue policy for level {level} with {levels} priority levels",
                expected=f"levels 1 to {levels}",
                remedy="correct the key, or raise priority_levels",
            )


def _check_order(model: Model, batching: Any) -> Iterator[Finding]:
    """Responses can keep their order only where no request may overtake another."""
    if batching.priority_levels > 1:
        yield ORDER_PRIORITY.at(
            model.place("dynamic_batching", "preserve_ordering"),
            found=f"preserve_ordering with {batching.priority_levels} priority levels",
            expected="one priority level",
            remedy="remove priority_levels or preserve_ordering",
        )
    policies = {"default_queue_policy": batching.default_queue_policy}
    policies |= {f"priority_queue_policy[{level}]": policy for level, policy in batching.priority_queue_policy.items()}
    for name, policy in policies.items():
        if policy.default_timeout_microseconds and policy.timeout_action == ModelQueuePolicy.DELAY:
            yield ORDER_DELAY.at(
                model.place("dynamic_batching", name),
                found="timeout_action DELAY with preserve_ordering",
                expected="REJECT",
                remedy="set timeout_action: REJECT, or remove preserve_ordering",
            )
