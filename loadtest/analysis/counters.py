"""Triton's own counters during a test: before, after, and their difference."""

import time
from typing import Any

from clients.client import Client
from clients.statistics import STAGES, Counted

Snapshot = dict[str, dict[str, Any]]
_PAUSE_S, _LOOKS = 0.05, 10


def stages_us(server: Counted | None, mean_ms: float | None, lag_ms: float | None = None) -> dict[str, float]:
    """Split the client's mean latency into microseconds by stage; what neither side counted is network and client.

    There are no stages without a mean latency, and there is none for the generator without its mean lag.
    """
    if mean_ms is None:
        return {}
    stages = server.stages() if server else dict.fromkeys(STAGES, 0.0)
    own = {} if lag_ms is None else {"generator": round(lag_ms * 1000, 1)}
    rest = mean_ms * 1000 - sum(stages.values()) - (lag_ms or 0.0) * 1000
    return {**stages, "network_and_client": round(max(0.0, rest), 1), **own}


def snapshot(client: Client) -> Snapshot:
    """Read Triton's cumulative counters, summed over the versions of each model; raises ClientError."""
    counters: Snapshot = {}
    for version in client.statistics():
        # Batch sizes by name instead of in a list: so they can be added and subtracted.
        sizes = {str(entry["batch_size"]): entry for entry in version.get("batch_stats", ())}
        name = version["name"]
        counters[name] = _combine(counters.get(name, {}), {**version, "batch_stats": sizes}, 1)
    return counters


def settled(client: Client) -> Snapshot:
    """Read them after a test, once they stand still: Triton counts a request a moment after it has answered it.

    They never do where others use the server; then what was read last is given.
    """
    seen = snapshot(client)
    for _ in range(_LOOKS):
        time.sleep(_PAUSE_S)
        before, seen = seen, snapshot(client)
        if seen == before:
            break
    return seen


def difference(before: Snapshot, after: Snapshot) -> Snapshot:
    """Subtract two snapshots."""
    return {model: _combine(counters, before.get(model, {}), -1) for model, counters in after.items()}


def _combine(left: Any, right: Any, sign: int) -> Any:
    """Counters `left + sign * right` through nested dictionaries; values that are not numbers are dropped.

    A counter that one side lacks is zero there: gRPC omits zeros, and new batch sizes had no counters before.
    """
    if not isinstance(left, dict) and not isinstance(right, dict):
        return (left or 0) + sign * (right or 0)
    left, right = left or {}, right or {}
    return {
        key: _combine(left.get(key), right.get(key), sign)
        for key, value in {**left, **right}.items()
        if isinstance(value, dict | int) and not isinstance(value, bool)
    }
