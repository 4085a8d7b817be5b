"""How good the tuner is: its choice beside the committed config and the best of an exhaustive grid.

    python -m tools.bench tune mnist_mlp --slo 'p99<20ms'
    python -m tools.bench tune resnet18 --slo 'p95<400ms' --seconds 16

The grid is measured once and kept (tools/bench/grids/<model>.json); a complete one is only read. Then the tuner gets a
tenth of the grid's time, several times with other arrivals. Its choices, the committed one and the grid's best three
are measured again in interleaved rounds, since the best of many noisy figures is too good.
"""

import argparse
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from clients.command import duration, positive, positive_float, say, text_table
from clients.output import try_folder
from tools.bench.grid import Grid, measure_grid, measure_point
from tools.bench.options import DEFAULT
from tools.repository import ROOT
from tools.serve.native import choose_backend
from tools.tune.candidates import Candidate, TuningError, deployments, grid
from tools.tune.goal import parse_goal
from tools.tune.options import TuneOptions, add_measuring_arguments, tune_options
from tools.tune.serving import ServedModel, serve_models
from tools.tune.trials import Document

_GRIDS = Path(__file__).parent / "grids"
_FINALISTS = 3
_WARM_UP_S = 0.2  # of the tuner's trials, where none is set


@dataclass(frozen=True, kw_only=True)
class BenchTuneOptions(TuneOptions):
    """The tuner's options, and the effort."""

    model: str
    seconds: float
    share: float
    tunings: int
    rounds: int
    data: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options."""
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--seconds", type=duration, default=9.0, help=f"of trials for each choice {DEFAULT}")
    parser.add_argument("--share", type=positive_float, default=0.1, help=f"of the grid's time for the tuner {DEFAULT}")
    parser.add_argument("--tunings", type=positive, default=3, help=f"each with other arrivals {DEFAULT}")
    parser.add_argument("--rounds", type=positive, default=3, help=f"of the final comparison {DEFAULT}")
    parser.add_argument("--data", type=Path, default=_GRIDS, help=f"folder of the grids {DEFAULT}")
    parser.set_defaults(read=partial(tune_options, kind=BenchTuneOptions))
    add_measuring_arguments(parser, ROOT / "build" / "bench_tune")


def run(options: BenchTuneOptions) -> dict[str, Any]:
    """Measure the grid, tune, compare the choices, print a table, and return the ratios.

    Raises:
        TuningError: the tuner found nothing.
    """
    goal = parse_goal(options.slo)
    for folder, option in ((options.output, "--output"), (options.data, "--data")):
        try_folder(folder, option)
    with serve_models([options.model], options, goal) as (model,):
        whole = _measure_grid(model, options, goal.limit_ms)
    tuned = [_tune(options, options.share * whole.seconds, number) for number in range(options.tunings)]
    leaders = sorted(whole.points, key=lambda point: -point.peak_rps)[:_FINALISTS]
    with serve_models([options.model], options, goal) as (model,):
        base, finalists = model.committed, [point.candidate for point in leaders]
        peaks = _compare(model, options, list(dict.fromkeys([base, *(best for best, _ in tuned), *finalists])))
    of_grid = max(peaks[candidate] for candidate in finalists)
    table = [["choice", "requests/s", "÷ committed", "÷ grid's best"]]
    for candidate, peak in peaks.items():
        table.append([candidate.label(), f"{peak:,.0f}", f"{peak / peaks[base]:.2f}", f"{peak / of_grid:.2f}"])
    print(text_table(table))
    return {
        "model": options.model,
        "slo": options.slo,
        "tuned": [best.label() for best, _ in tuned],
        "tuned_rps": [peaks[best] for best, _ in tuned],
        "tuned_by_committed": [round(peaks[best] / peaks[base], 3) for best, _ in tuned],
        "tuned_by_grid": [round(peaks[best] / of_grid, 3) for best, _ in tuned],
        "time_by_grid": [round(seconds / whole.seconds, 3) for _, seconds in tuned],
        "grid_choices": len(whole.points),
        "grid_s": whole.seconds,
    }


def _measure_grid(model: ServedModel, options: BenchTuneOptions, limit_ms: float) -> Grid:
    cores = os.cpu_count() or 1
    candidates = grid(model.committed, deployments(cores, model.gpu), limit_ms)
    conditions: Document = {"model": model.name, "slo": options.slo, "protocol": options.connection.protocol}
    conditions |= {"trial": options.trial_s, "cores": cores, "pytorch_backend": choose_backend("auto").name}
    path = options.data / f"{model.name}.json"
    return measure_grid(model, candidates, options.seconds, path, conditions)


def _tune(options: BenchTuneOptions, budget_s: float, number: int) -> tuple[Candidate, float]:
    """Let the tuner work for a time; returns its choice and the seconds that it took."""
    from tools.tune.tuning import tune

    generator = replace(options.generator, seed=options.generator.seed + 1000 * number)
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
