"""Tune one model, or several that share a server: measure, report, write the configs."""

import os
import platform
import time
from dataclasses import asdict, replace
from functools import partial

from clients.output import try_folder
from tools.check.rehearsal import rehearse
from tools.check.steps import promised_batch_size
from tools.repository import versions
from tools.tune.candidates import TuningError, deployments, grid
from tools.tune.evidence import write_configs, write_page
from tools.tune.goal import Goal, parse_goal
from tools.tune.joint import Member, search_plans
from tools.tune.options import TuneOptions
from tools.tune.outcome import Conditions, Outcome, summarize
from tools.tune.race import best_contender, run_race
from tools.tune.record import Record, resume
from tools.tune.serving import ServedModel, serve_models

_ALONE_SHARE = 0.6  # of a joint tuning's time in which each model is tuned by itself
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
    record = _race(model, options, goal, options.budget_s)
    conditions = [_conditions(model, options)]
    outcome = summarize(record, goal, best_contender(record, goal), conditions, {model.name: 1.0})
    return replace(outcome, page=write_page(outcome, record, goal, options.output))


def _race(model: ServedModel, options: TuneOptions, goal: Goal, budget_s: float) -> Record:
    """Measure one model's candidates; what an earlier run measured counts, in results and time."""
    record = resume(options.output / f"{model.name}.json", asdict(_conditions(model, options)), options.fresh)
    began, spent = time.monotonic(), record.seconds
    among, least_batch = deployments(os.cpu_count() or 1, model.gpu), _least_batch(model, options)
    candidates = grid(model.committed, among, goal.limit_ms, least_batch)
    run_race(model, candidates, goal, record, began + budget_s - spent)
    record.seconds = spent + time.monotonic() - began
    record.save()
    return record


def _tune_together(models: list[ServedModel], shares: dict[str, float], options: TuneOptions, goal: Goal) -> Outcome:
    began, members = time.monotonic(), []
    for model in models:
        alone = _race(model, options, goal, _ALONE_SHARE * options.budget_s / len(models))
        leaders = sorted(alone.contenders, key=lambda contender: -contender.search.peak())
        choices = [leader.candidate for leader in leaders if leader.candidate != model.committed]
        members.append(Member(model, shares[model.name], choices[:_CHOICES], leaders[0].search.peak()))
    conditions = [_conditions(model, options) for model in models]
    described = {"shares": shares, "models": [asdict(own) for own in conditions]}
    record = resume(options.output / f"{'-'.join(shares)}.json", described, options.fresh)
    record.seconds += time.monotonic() - began
    best = search_plans(members, goal, record, time.monotonic() + options.budget_s - record.seconds)
    outcome = summarize(record, goal, best, conditions, shares)
    return replace(outcome, page=write_page(outcome, record, goal, options.output))


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
        machine=_machine(model),
        base=model.committed,
    )


def _machine(model: ServedModel) -> str:
    backend = f", {model.server.backend.name} pytorch backend" if model.server else ""
    return f"{os.cpu_count()} cores, {platform.machine()}{', GPU' if model.gpu else ''}{backend}"
