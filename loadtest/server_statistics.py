"""What the server itself counted during a test: Triton's statistics before, after, and their difference."""

from typing import Any

from clients.client import Client

Snapshot = dict[str, dict[str, Any]]


def snapshot(client: Client) -> Snapshot:
    """Triton's cumulative counters, summed over the versions of each model."""
    counters: Snapshot = {}
    for one in client.statistics():
        counters[one["name"]] = combine(counters.get(one["name"], {}), one | by_batch_size(one), 1)
    return counters


def by_batch_size(one: dict[str, Any]) -> dict[str, Any]:
    """Triton's list of what executions of each batch size took, as counters that can be subtracted."""
    return {"batch_stats": {str(entry["batch_size"]): entry for entry in one.get("batch_stats", ())}}


def combine(left: Any, right: Any, sign: int) -> Any:
    """Counters `left + sign * right`, number by number, through nested dictionaries; what is no number is dropped.

    A counter that one side lacks is zero there: gRPC leaves zeros out, and batches of a new size have had none before.
    """
    if isinstance(left, dict) or isinstance(right, dict):
        left, right = left or {}, right or {}
        values = {**left, **right}
        return {key: combine(left.get(key), right.get(key), sign) for key in values if countable(values[key])}
    return (left or 0) + sign * (right or 0)


def countable(value: Any) -> bool:
    """Whether a field is a counter or holds counters."""
    return isinstance(value, dict | int) and not isinstance(value, bool)


def difference(before: Snapshot, after: Snapshot) -> Snapshot:
    """What was counted in between."""
    return {
        model: combine(counters, before[model], -1) if model in before else counters
        for model, counters in after.items()
    }
