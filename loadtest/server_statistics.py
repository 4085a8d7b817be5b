"""What the server itself counted during a test: Triton's statistics before, after, and their difference."""

from typing import Any

from clients.client import Client

Snapshot = dict[str, dict[str, Any]]


def snapshot(client: Client) -> Snapshot:
    """Triton's cumulative counters, summed over the versions of each model."""
    counters: Snapshot = {}
    for one in client.statistics():
        counters[one["name"]] = combine(counters.get(one["name"], {}), one, 1)
    return counters


def combine(left: Any, right: Any, sign: int) -> Any:
    """Counters `left + sign * right`, number by number, through nested dictionaries; what is no number is dropped."""
    if isinstance(right, dict):
        left = left if isinstance(left, dict) else {}
        return {key: combine(left.get(key), value, sign) for key, value in right.items() if countable(value)}
    return (left or 0) + sign * right


def countable(value: Any) -> bool:
    """Whether a field is a counter or holds counters."""
    return isinstance(value, dict | int) and not isinstance(value, bool)


def difference(before: Snapshot, after: Snapshot) -> Snapshot:
    """What was counted in between."""
    return {
        model: combine(counters, before[model], -1) if model in before else counters
        for model, counters in after.items()
    }
