"""max_batch_size and the dynamic batcher: preferred sizes, priorities, order, queues."""

from collections.abc import Iterator
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelQueuePolicy

from tools.check.finding import Finding, Rule
from tools.check.served import Model

BASE = 'name: "model"\nbackend: "pytorch"\nmax_batch_size: 8\n'
NEGATIVE = Rule(
    "max-batch-size", "max_batch_size is negative", "core", 'name: "model"\nbackend: "pytorch"\nmax_batch_size: -1'
)
PREFERRED = Rule(
    "preferred-batch-size",
    "A preferred batch size is below 1 or above max_batch_size",
    "core",
    BASE + "dynamic_batching { preferred_batch_size: [ 16 ] }",
)
DEFAULT_PRIORITY = Rule(
    "default-priority",
    "default_priority_level is none of the priority levels",
    "core",
    BASE + "dynamic_batching { priority_levels: 2 }",
)
PRIORITY_POLICY = Rule(
    "priority-queue-policy",
    "priority_queue_policy is for a level that does not exist",
    "core",
    BASE
    + "dynamic_batching { priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value { } } }",
)
ORDER_PRIORITY = Rule(
    "preserve-ordering-priority",
    "preserve_ordering with more than one priority level",
    "core",
    BASE + "dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
)
ORDER_DELAY = Rule(
    "preserve-ordering-delay",
    "preserve_ordering with a queue policy that delays requests that time out",
    "core",
    BASE
    + "dynamic_batching { preserve_ordering: true "
    + "default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 100 } }",
)
RULES = (NEGATIVE, PREFERRED, DEFAULT_PRIORITY, PRIORITY_POLICY, ORDER_PRIORITY, ORDER_DELAY)


def check(model: Model) -> Iterator[Finding]:
    """All that is wrong with how requests are put together."""
    if model.config.max_batch_size < 0:
        yield NEGATIVE.at(
            model.place("max_batch_size"),
            found=f"max_batch_size: {model.config.max_batch_size}",
            expected="0 for a model without batches, or the largest batch",
            remedy="set 0 or more",
        )
    if model.config.HasField("dynamic_batching"):
        batching = model.config.dynamic_batching
        yield from check_preferred(model, batching.preferred_batch_size, "dynamic_batching")
        yield from check_priorities(model, batching)
        if batching.preserve_ordering:
            yield from check_order(model, batching)


def check_preferred(model: Model, sizes: Any, *path: str | int) -> Iterator[Finding]:
    """Preferred sizes are sizes that a batch can have."""
    largest = model.config.max_batch_size
    for number, size in enumerate(sizes):
        if not 1 <= size <= largest:
            yield PREFERRED.at(
                model.place(*path, "preferred_batch_size", number),
                found=f"preferred_batch_size {size} with max_batch_size {largest}",
                expected=f"1 to {largest}" if largest > 0 else "none, for the model takes no batches",
                remedy="remove it" if largest < 1 else "remove it, or raise max_batch_size",
            )


def check_priorities(model: Model, batching: Any) -> Iterator[Finding]:
    """Default level and policies belong to levels that exist."""
    levels = batching.priority_levels
    if not levels:
        return
    if not 1 <= batching.default_priority_level <= levels:
        yield DEFAULT_PRIORITY.at(
            model.place("dynamic_batching", 0, "default_priority_level"),
            found=f"default_priority_level {batching.default_priority_level} of {levels} levels",
            expected=f"1 to {levels}",
            remedy=f"set default_priority_level: {levels}, or another level",
        )
    for level in batching.priority_queue_policy:
        if not 1 <= level <= levels:
            yield PRIORITY_POLICY.at(
                model.place("dynamic_batching", 0, f"priority_queue_policy[{level}]"),
                found=f"a queue policy for level {level} of {levels}",
                expected=f"levels 1 to {levels}",
                remedy="correct the key, or raise priority_levels",
            )


def check_order(model: Model, batching: Any) -> Iterator[Finding]:
    """Answers can come in order only where no request may overtake another."""
    if batching.priority_levels > 1:
        yield ORDER_PRIORITY.at(
            model.place("dynamic_batching", 0, "preserve_ordering"),
            found=f"preserve_ordering with {batching.priority_levels} priority levels",
            expected="one level",
            remedy="remove priority_levels or preserve_ordering",
        )
    policies = {"default_queue_policy": batching.default_queue_policy}
    policies |= {f"priority_queue_policy[{level}]": policy for level, policy in batching.priority_queue_policy.items()}
    for name, policy in policies.items():
        if policy.default_timeout_microseconds and policy.timeout_action == ModelQueuePolicy.DELAY:
            yield ORDER_DELAY.at(
                model.place("dynamic_batching", 0, name),
                found="timeout_action DELAY with preserve_ordering",
                expected="REJECT",
                remedy="set timeout_action: REJECT, or remove preserve_ordering",
            )
