"""Tune one model, or several that share a server: calibrate, simulate, measure, report."""

import os
import platform
import time
from dataclasses import asdict, replace
from functools import partial

from clients.output import try_folder
from tools.check.rehearsal import rehearse
from tools.check.steps import promised_batch_size
from tools.repository import versions
from tools.tune.calibration import propose
from tools.tune.candidates import TuningError
from tools.tune.evidence import write_configs, write_page
from tools.tune.goal import Goal, parse_goal
from tools.tune.joint import JointSearch, Member, run_search
from tools.tune.options import TuneOptions
from tools.tune.outcome import Conditions, Outcome, summarize
from tools.tune.prediction import shortlist
from tools.tune.race import Race, best_contender, run_race
from tools.tune.record import resume
from tools.tune.serving import ServedModel, serve_models

_CALIBRATION_SHARE = 0.6  # of the budget, at most
_SHORTLIST = 7
_CHOICES = 4  # of each model that are tried in a joint tuning, besides the committed one


def tune(shares: dict[str, float], options: TuneOptions) -> Outcome:
    """Tune a model, or several together by their shares of the requests; writes the record, the page and the configs.

    Raises:
        ToolError: the models cannot be tuned.
    """
    if len(shares) > 1 and options.objective != "throughput":
        raise TuningError(f"--objective {options.objective} is for one model; several are tuned for throughput")
    goal = parse_goal(options.slo, options.objective, options.rate)
    try_folder(options.output, "--output")
    with serve_models(list(shares), options, goal) as models:
        outcome = _tune_together(models, shares, options, goal) if len(models) > 1 else _tune(models[0], options, goal)
        if outcome.best is None or options.dry_run:
            return outcome
        gpu = models[0].gpu
        hardware = options.name or ("gpu" if gpu else "cpu")
        write = partial(write_configs, outcome, outcome.best, hardware, gpu)
        rehearse(options.repository, write)
        return replace(outcome, configs=write(options.repository))


def _tune(model: ServedModel, options: TuneOptions, goal: Goal) -> Outcome:
    began = time.monotonic()
    conditions = _conditions(model, options)
    record = resume(options.output / f"{model.name}.json", asdict(conditions), options.fresh)
    spent = record.seconds
    until = began + _CALIBRATION_SHARE * options.budget_s - spent
    ranked, simulated = propose(model, goal, _least_batch(model, options), record, until)
    race = Race(model, goal, record, began + options.budget_s - spent)
    predictions = {prediction.candidate: prediction for prediction in ranked}
    run_race(race, shortlist(ranked, model.committed, _SHORTLIST), predictions)
    record.seconds = spent + time.monotonic() - began
    record.save()
    outcome = summarize(record, goal, best_contender(record, goal), [conditions], {model.name: 1.0}, simulated)
    return replace(outcome, page=write_page(outcome, record, goal, options.output, ranked))


def _tune_together(models: list[ServedModel], shares: dict[str, float], options: TuneOptions, goal: Goal) -> Outcome:
    began, members, simulated = time.monotonic(), [], 0
    conditions = [_conditions(model, options) for model in models]
    for number, (model, own) in enumerate(zip(models, conditions, strict=True), 1):
        # An earlier tuning of the model by itself lends its calibrations.
        record = resume(options.output / f"{model.name}.json", asdict(own), options.fresh)
        # Each model gets what the earlier ones have left of the time for calibrations.
        until = began + _CALIBRATION_SHARE * options.budget_s * number / len(models) - record.seconds
        ranked, count = propose(model, goal, _least_batch(model, options), record, until)
        simulated += count
        peaks = {prediction.candidate: prediction.rate for prediction in ranked}
        alone = peaks.get(model.committed) or max(peaks.values(), default=100.0)
        candidates = shortlist(ranked, model.committed, _CHOICES + 1)[1:]
        members.append(Member(model, shares[model.name], candidates, alone))
    described = {"shares": shares, "models": [asdict(own) for own in conditions]}
    record = resume(options.output / f"{'-'.join(shares)}.json", described, options.fresh)
    record.seconds += time.monotonic() - began
    best = run_search(JointSearch(tuple(members), goal, record, options.budget_s))
    outcome = summarize(record, goal, best, conditions, shares, simulated)
    return replace(outcome, page=write_page(outcome, record, goal, options.output, ()))


def _least_batch(model: ServedModel, options: TuneOptions) -> int:
    """The smallest max_batch_size to consider: the load's requests fit, and those that ensembles pass on."""
    most = model.committed.max_batch_size
    promised = promised_batch_size(model.name, options.repository)
    return most if options.keep_max_batch_size else min(most, max(options.generator.client_batch, promised))


def _conditions(model: ServedModel, options: TuneOptions) -> Conditions:
    return Conditions(
        model=model.name,
        slo=options.slo,
        objective=options.objective,
        rate=options.rate,
        protocol=options.connection.protocol,
        client_batch=options.generator.client_batch,
        trial=options.trial_s,
        keep_max_batch_size=options.keep_max_batch_size,
        url=options.url,
        version=max(versions(model.name, options.repository), default=None),
        triton=model.client.server().get("version"),
        machine=f"{os.cpu_count()} cores, {platform.machine()}{', GPU' if model.gpu else ''}",
        base=model.committed,
    )
