"""How good the tuner is: its choice beside the committed config and the best of an exhaustive grid.

    python -m tools.bench tune mnist_mlp --slo 'p99<20ms'
    python -m tools.bench tune resnet18 --slo 'p95<400ms' --delays 0 5000 20000 --seconds 22

The grid is measured once and kept (tools/bench/grids/<model>.json); a complete one is only read. Then the tuner gets a
tenth of the grid's time. Its choice, the committed one and the grid's best three are measured again in interleaved
rounds, since the best of many noisy figures is too good. The twin's predictions are compared with the grid's
measurements, of which its fit has seen none but the largest batch without a delay.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from clients.command import duration, positive, positive_float, say, text_table
from clients.output import try_folder
from tools.bench.grid import DELAYS_US, Grid, GridPoint, grid_candidates, measure_grid, measure_point
from tools.bench.options import DEFAULT
from tools.repository import ROOT
from tools.tune.candidates import Candidate, TuningError, deployments
from tools.tune.goal import Goal, parse_goal
from tools.tune.options import TuneOptions, add_measuring_arguments, tune_options
from tools.tune.record import Record, read_record
from tools.tune.serving import ServedModel, serve_models
from tools.tune.trials import Document

_GRIDS = Path(__file__).parent / "grids"
_FINALISTS = 3
_WARM_UP_S = 0.2  # of the tuner's trials, where none is set


@dataclass(frozen=True, kw_only=True)
class BenchTuneOptions(TuneOptions):
    """The tuner's options, the delays of the grid in microseconds, and the effort."""

    model: str
    delays: list[int]
    seconds: float
    share: float
    rounds: int
    data: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    delays = f"of the grid (default: {' '.join(map(str, DELAYS_US))})"
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--delays", nargs="+", type=int, default=list(DELAYS_US), metavar="US", help=delays)
    parser.add_argument("--seconds", type=duration, default=13.0, help=f"of trials for each choice {DEFAULT}")
    parser.add_argument("--share", type=positive_float, default=0.1, help=f"of the grid's time for the tuner {DEFAULT}")
    parser.add_argument("--rounds", type=positive, default=3, help=f"of the final comparison {DEFAULT}")
    parser.add_argument("--data", type=Path, default=_GRIDS, help=f"folder of the grids {DEFAULT}")
    parser.set_defaults(read=partial(tune_options, kind=BenchTuneOptions))
    add_measuring_arguments(parser, ROOT / "build" / "bench_tune")


def run(options: BenchTuneOptions) -> dict[str, Any]:
    """Measure the grid, tune, compare the choices, print a table, and return the ratios and the twin's errors.

    Raises:
        TuningError: the tuner found nothing.
    """
    goal = parse_goal(options.slo)
    for folder, option in ((options.output, "--output"), (options.data, "--data")):
        try_folder(folder, option)
    with serve_models([options.model], options, goal) as (model,):
        grid = _measure_grid(model, options)
    best, seconds = _tune(options, options.share * grid.seconds)
    leaders = sorted(grid.points, key=lambda point: -point.peak_rps)[:_FINALISTS]
    with serve_models([options.model], options, goal) as (model,):
        base, finalists = model.committed, [point.candidate for point in leaders]
        peaks = _compare(model, options, list(dict.fromkeys([base, best, *finalists])))
        record = read_record(options.output / f"{options.model}.json")
        twin = _twin_errors(model, record, grid.points, goal)
    of_grid = max(peaks[candidate] for candidate in finalists)
    table = [["choice", "requests/s", "÷ committed", "÷ grid's best"]]
    for candidate, peak in peaks.items():
        table.append([candidate.label(), f"{peak:,.0f}", f"{peak / peaks[base]:.2f}", f"{peak / of_grid:.2f}"])
    print(text_table(table))
    return {
        "model": options.model,
        "slo": options.slo,
        "tuned": best.label(),
        "tuned_rps": peaks[best],
        "tuned_by_committed": round(peaks[best] / peaks[base], 3),
        "tuned_by_grid": round(peaks[best] / of_grid, 3),
        "seconds": round(seconds, 1),
        "time_by_grid": round(seconds / grid.seconds, 3),
        "grid_choices": len(grid.points),
        "grid_s": grid.seconds,
        "twin": twin,
    }


def _measure_grid(model: ServedModel, options: BenchTuneOptions) -> Grid:
    cores = os.cpu_count() or 1
    candidates = grid_candidates(model.committed, deployments(cores, model.gpu), options.delays)
    conditions: Document = {"model": model.name, "slo": options.slo, "protocol": options.connection.protocol}
    conditions |= {"trial": options.trial_s, "cores": cores}
    path = options.data / f"{model.name}.json"
    return measure_grid(model, candidates, options.seconds, path, conditions)


def _tune(options: BenchTuneOptions, budget_s: float) -> tuple[Candidate, float]:
    """Let the tuner work for a time; returns its choice and the seconds that it took."""
    from tools.tune.tuning import tune

    generator = options.generator
    if generator.warm_up_s is None:
        generator = replace(generator, warm_up_s=_WARM_UP_S)
    means = replace(options, budget_s=budget_s, generator=generator, dry_run=True, fresh=True)
    outcome = tune({options.model: 1.0}, means)
    if outcome.best is None:
        raise TuningError(f"the tuner found nothing in {budget_s:.0f} s: {outcome.summary}")
    (best,) = outcome.best.plan
    return best, outcome.seconds


def _compare(model: ServedModel, options: BenchTuneOptions, candidates: list[Candidate]) -> dict[Candidate, float]:
    """The median peak of each choice over interleaved rounds."""
    peaks: dict[Candidate, list[float]] = {candidate: [] for candidate in candidates}
    for number in range(options.rounds):
        for candidate in candidates if number % 2 == 0 else candidates[::-1]:
            peaks[candidate].append(measure_point(model, candidate, options.seconds)["peak_rps"])
            say(f"round {number + 1}, {candidate.label()}: {peaks[candidate][-1]:,.0f}/s")
    return {candidate: median(figures) for candidate, figures in peaks.items()}


def _twin_errors(model: ServedModel, record: Record, points: Sequence[GridPoint], goal: Goal) -> dict[str, Any]:
    """The twin's errors at the grid's choices: of the peak, and of the percentile at an easy load and near the limit.

    Near the limit a queue is about to build up, and a little more work adds a lot of latency.
    """
    from tools.tune.calibration import calibrate_all, fit_hosts
    from tools.tune.prediction import arrivals, peak, percentile_ms, run

    calibrate_all(model, goal, record)  # Those for which the tuner had no time.
    hosts, unit = fit_hosts(record, goal.limit_ms), arrivals()
    calibrated = [calibration.candidate for calibration in record.calibrations]
    errors: dict[str, list[float]] = {"throughput": [], "latency_easy": [], "latency_near": []}
    for point in points:
        host = hosts.get(point.candidate.deployment)
        if host is None or point.candidate in calibrated:
            continue
        errors["throughput"].append((peak(host, point.candidate, goal, unit) or 0.0) / point.peak_rps - 1)
        for name, trials in (("latency_easy", (point.easy,)), ("latency_near", point.trials)):
            for trial in trials:
                measured = trial.latency_ms[goal.percentile]
                if trial.valid and trial.steady and measured and trial.rate:
                    predicted = percentile_ms(run(host, point.candidate, trial.rate, unit), goal.share)
                    errors[name].append(predicted / measured - 1)
    return {name: _summary(values) for name, values in errors.items()}


def _summary(errors: list[float]) -> dict[str, float | None]:
    """The number of relative errors, the median of their sizes, and their median."""
    if not errors:
        return {"count": 0, "error": None, "bias": None}
    size, bias = median(map(abs, errors)), median(errors)
    return {"count": len(errors), "error": round(size, 3), "bias": round(bias, 3)}
