"""How good the tuner is: its choice beside the committed config and the best of an exhaustive grid, in one run.

    python -m tools.bench_tune mnist_mlp --slo 'p99<20ms'
    python -m tools.bench_tune resnet18 --slo 'p95<400ms' --delays 0 5000 20000 --seconds 22

The grid is measured once and kept (docs/tuning/<model>-grid.json); where the file is complete it is only read. Then the
tuner gets a tenth of the grid's time, and its choice, the committed one and the grid's best three are served in turn,
several rounds, since the best of many noisy figures flatters itself. The twin is judged by the grid's choices, of which
its fit has seen none but the largest batch without a delay. The last line of stdout is one compact JSON document.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from clients.command import say, text_table
from clients.connection import add_connection_arguments
from clients.errors import ClientError
from loadtest.options import add_generator_arguments
from loadtest.slo import SloError
from tools.repository import REPOSITORY, ROOT, RepositoryError
from tools.serve.hardware import HARDWARE
from tools.serve.server_error import ServerError
from tools.tune.candidates import Candidate, TuningError, candidate_from, candidate_of, deployments
from tools.tune.goal import Goal, goal
from tools.tune.grid import DELAYS_US, grid, measure_grid, measure_one
from tools.tune.prediction import arrivals, peak, percentile_ms, run
from tools.tune.proposals import calibrate_all, fitted
from tools.tune.record import Record, taken_up
from tools.tune.served import Served, served
from tools.tune.trials import Document, yardstick

DATA = ROOT / "docs" / "tuning"
FINALISTS = 3


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench_tune", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--slo", required=True, help="e.g. 'p99<20ms'")
    parser.add_argument("--delays", nargs="+", type=int, default=list(DELAYS_US), metavar="US", help="of the grid")
    parser.add_argument("--seconds", type=float, default=13.0, help="of trials for each choice (default: 13)")
    parser.add_argument("--trial", type=float, default=2.0, metavar="S", help="seconds, at the least (default: 2)")
    parser.add_argument("--share", type=float, default=0.1, help="of the grid's time for the tuner (default: 0.1)")
    parser.add_argument("--rounds", type=int, default=3, help="of the final comparison (default: 3)")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the grids (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench_tune", help="(default: %(default)s)")
    parser.add_argument("--hardware", choices=HARDWARE, default="auto", help="as for tools.serve (default: auto)")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help="(default: %(default)s)")
    add_generator_arguments(parser)
    add_connection_arguments(parser, retries=None)
    return parser


def whole_grid(one: Served, arguments: argparse.Namespace, wanted: Goal) -> Document:
    """The grid's data; what is missing is measured."""
    among = deployments(os.cpu_count() or 1, one.gpu)
    choices = grid(candidate_of(one.base), among, tuple(arguments.delays))
    about = {name: getattr(arguments, name) for name in ("model", "slo", "protocol", "trial", "seconds")}
    path = arguments.data / f"{one.model}-grid.json"
    how = yardstick(one, arguments, list(wanted.objectives))
    return measure_grid(one, how, choices, arguments.seconds, path, {**about, "cores": os.cpu_count()}, say)


def tuned(arguments: argparse.Namespace, budget_s: float) -> tuple[Document, Path]:
    """What the tuner says within a budget, as people run it; and where its record is.

    Raises:
        TuningError: it found nothing.
    """
    line = [sys.executable, "-m", "tools.tune", arguments.model, "--slo", arguments.slo, "--dry-run", "--fresh"]
    line += ["--budget", f"{budget_s:.0f}s", "--trial", str(arguments.trial), "--protocol", arguments.protocol]
    line += ["--repository", str(arguments.repository), "--output", str(arguments.output)]
    line += ["--hardware", arguments.hardware, "--warm-up", str(arguments.warm_up_s or 0.2)]
    result = subprocess.run(line, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if result.returncode:
        raise TuningError(f"tools.tune ended with exit code {result.returncode}")
    return json.loads(result.stdout.splitlines()[-1]), arguments.output / f"{arguments.model}.json"


def calibrated(one: Served, arguments: argparse.Namespace, wanted: Goal, path: Path) -> Record:
    """The tuner's record, with the calibrations for which it had no time."""
    record = taken_up(path, json.loads(path.read_text())["about"], fresh=False)
    how, base = yardstick(one, arguments, list(wanted.objectives)), candidate_of(one.base)
    among = deployments(os.cpu_count() or 1, one.gpu)
    calibrate_all(one, how, base, wanted, record, among, float("inf"), say)
    return record


def twin_errors(record: Record, measured: list[Document], wanted: Goal) -> Document:
    """How far the twin is off at the grid's choices: their peaks; the percentile at an easy load, and near the limit.

    Near the limit a queue is about to form, and a little more work makes a lot more latency.
    """
    hosts, unit = fitted(record, float(os.cpu_count() or 1), wanted.limit_ms, say), arrivals()
    fitted_on = [candidate_from(each["choice"]) for each in record.calibrations]
    name = f"{wanted.percentile}_ms"
    peaks: list[float] = []
    easy: list[float] = []
    near: list[float] = []
    for one in measured:
        choice = candidate_from(one["candidate"])
        host = hosts.get(choice.deployment)
        if host is None or choice in fitted_on:
            continue
        peaks.append((peak(host, choice, wanted, unit) or 0.0) / one["peak_rps"] - 1)
        for trials, errors in (([one["easy"]], easy), (one["trials"], near)):
            for trial in (each for each in trials if each["valid"] and each["steady"] and each[name]):
                errors.append(percentile_ms(run(host, choice, trial["rate"], unit), wanted.share) / trial[name] - 1)
    return {"throughput": errors_of(peaks), "latency_easy": errors_of(easy), "latency_near": errors_of(near)}


def errors_of(relative: list[float]) -> Document:
    """Of relative differences: how many, the median of their sizes, and the median as it is."""
    if not relative:
        return {"count": 0, "error": None, "bias": None}
    size, bias = np.median(np.abs(relative)), np.median(relative)
    return {"count": len(relative), "error": round(float(size), 3), "bias": round(float(bias), 3)}


def final(one: Served, arguments: argparse.Namespace, wanted: Goal, choices: list[Candidate]) -> dict[Candidate, float]:
    """The median peak of each choice over rounds that go through all of them in turn."""
    how = yardstick(one, arguments, list(wanted.objectives))
    seen: dict[Candidate, list[float]] = {choice: [] for choice in choices}
    for number in range(arguments.rounds):
        for choice in choices if number % 2 == 0 else choices[::-1]:
            seen[choice].append(measure_one(one, how, choice, arguments.seconds)["peak_rps"])
            say(f"round {number + 1}, {choice.label()}: {seen[choice][-1]:,.0f}/s")
    return {choice: median(figures) for choice, figures in seen.items()}


def bench(one: Served, arguments: argparse.Namespace, wanted: Goal) -> tuple[Document, list[list[str]]]:
    """Grid, tuner, comparison."""
    base = candidate_of(one.base)
    data = whole_grid(one, arguments, wanted)
    found, record = tuned(arguments, arguments.share * data["seconds"])
    best = candidate_from(found["best"]["candidate"])
    leaders = sorted(data["measured"], key=lambda each: -each["peak_rps"])[:FINALISTS]
    choices = list(dict.fromkeys([base, best, *(candidate_from(each["candidate"]) for each in leaders)]))
    peaks = final(one, arguments, wanted, choices)
    of_grid = max(peaks[candidate_from(each["candidate"])] for each in leaders)
    rows = [["choice", "requests/s", "÷ committed", "÷ grid's best"]]
    rows += [[c.label(), f"{p:,.0f}", f"{p / peaks[base]:.2f}", f"{p / of_grid:.2f}"] for c, p in peaks.items()]
    document: dict[str, Any] = {
        "model": one.model,
        "slo": arguments.slo,
        "tuned": best.label(),
        "tuned_rps": peaks[best],
        "tuned_by_committed": round(peaks[best] / peaks[base], 3),
        "tuned_by_grid": round(peaks[best] / of_grid, 3),
        "seconds": round(found["seconds"], 1),
        "time_by_grid": round(found["seconds"] / data["seconds"], 3),
        "grid_choices": len(data["measured"]),
        "grid_s": data["seconds"],
        "twin": twin_errors(calibrated(one, arguments, wanted, record), data["measured"], wanted),
    }
    return document, rows


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()
    try:
        wanted = goal(arguments.slo, "throughput", None)
        with served([arguments.model], arguments) as (one,):
            document, rows = bench(one, arguments, wanted)
    except (ClientError, SloError, TuningError, RepositoryError, ServerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text_table(rows))
    print(json.dumps(document, separators=(",", ":"), ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
