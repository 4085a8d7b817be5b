"""What an embedded server uses: memory and processor time of tritonserver and of its Python-based backends."""

from collections.abc import Sequence

import psutil

from clients.client import Client


def memory_bytes(server: int) -> int:
    """Memory of a tritonserver and its children; what they share is counted once (proportional set size)."""
    return sum(int(process.memory_full_info().pss) for process in _tree(server))


def cpu_seconds(server: int) -> float:
    """Processor seconds, user and system, of a tritonserver and its children so far."""
    times = [process.cpu_times() for process in _tree(server)]
    return float(sum(used.user + used.system for used in times))


def memory_by_model(server: int, client: Client, models: Sequence[str]) -> dict[str, int]:
    """Load models one after the other into a server in explicit mode; return the bytes that each added."""
    added = {}
    for model in models:
        before = memory_bytes(server)
        client.load(model)
        added[model] = memory_bytes(server) - before
    return added


def _tree(server: int) -> list[psutil.Process]:
    process = psutil.Process(server)
    return [process, *process.children(recursive=True)]
