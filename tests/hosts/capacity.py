"""What tools.capacity predicts from one replica, beside what one, two and three of them sustain behind the door."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from clients.command import say
from clients.errors import ToolError
from tests.doctor.ill import Model
from tests.hosts.cluster import HTTP, door, replica
from tests.hosts.network import Host
from tools.bench.copies import write_copy
from tools.repository import ROOT

SLEEPS, COMPUTES = "sleeps", "mnist_mlp"
# All hosts share one machine's processors. So the replicas of the first model take time, but no processor time; those
# of the second one do, and cannot add up here.
OBJECTIVES = {SLEEPS: "p90<300ms,errors<5%", COMPUTES: "p90<20ms,errors<1%"}
_MODEL = Model(fixed=100.0, each=0.0, batch=1, instances=4, more="")
# Enough that the door is not what limits.
_DOOR = ("--in-flight", "64", "--queue", "64")


def compare(
    models: Sequence[str], replicas: Sequence[Host], front: Host, caller: Host, folder: Path, budget: float
) -> list[dict[str, Any]]:
    """Measure one replica, predict several, and measure these; a row for each number of replicas."""
    repository = folder / "models"
    _MODEL.write(repository, SLEEPS)
    write_copy(COMPUTES, repository)
    with ExitStack() as running:
        for host in replicas:
            running.enter_context(replica(host, folder, repository))
        search = ("--budget", f"{budget:g}", "--trial", "4")
        place = f"{replicas[0].address}:{HTTP}"
        rows = []
        for model in models or OBJECTIVES:
            slo = OBJECTIVES[model]
            words = ("tools.capacity", model, "--rate", "100", "--slo", slo, "--url", place, *search)
            one = _ask(caller, *words)["measured"]
            for count in range(1, len(replicas) + 1):
                with door(front, replicas[:count], folder, repository, *_DOOR) as address:
                    found = _ask(caller, "loadtest.peak", model, "--slo", slo, "--url", address, *search)
                rows.append(_row(model, slo, count, one, found))
                say("  ".join(map(str, rows[-1].values())))
    return rows


def _row(model: str, slo: str, count: int, one: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    low, high = count * one["low_rps"], count * one["high_rps"]
    return {
        "model": model,
        "objective": slo,
        "replicas": count,
        "predicted/s": round(count * one["peak_rps"]),
        "from": round(low),
        "to": round(high),
        "measured/s": round(found["peak_rps"]),
        "measured from": round(found["low_rps"]),
        "measured to": round(found["high_rps"]),
        "ratio": round(found["peak_rps"] / (count * one["peak_rps"]), 2),
    }


def _ask(host: Host, *words: str) -> dict[str, Any]:
    line = host.line([sys.executable, "-m", *words])
    result = subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if not result.stdout:
        raise ToolError(f"{' '.join(words)} ended with exit code {result.returncode}")
    document: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return document
