"""The processes in which the embedded server runs its models: their private memory and processor time."""

from pathlib import Path

import psutil

_STUB = "triton_python_backend_stub"


def instances(server: int) -> dict[int, str]:
    """Process ids of a tritonserver's model instances, and the model that each runs."""
    models = {}
    for process in psutil.Process(server).children():
        words = process.cmdline()
        if words and words[0].endswith(_STUB):
            # The stub's first argument is <model>/<version>/<file>.
            models[process.pid] = Path(words[1]).parent.parent.name
    return models


def private_bytes(pid: int) -> int:
    """Memory that would be free if the process ended (unique set size)."""
    return int(psutil.Process(pid).memory_full_info().uss)


def cpu_seconds(server: int) -> float:
    """Processor seconds, user and system, of a tritonserver and its model instances so far."""
    times = [psutil.Process(pid).cpu_times() for pid in (server, *instances(server))]
    return float(sum(used.user + used.system for used in times))
