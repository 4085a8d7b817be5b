"""The config that a tuning writes, `configs/<hardware>.pbtxt`, with the evidence as a comment."""

import textwrap
from pathlib import Path

from google.protobuf import text_format

from clients.output import write_atomically
from tools.repository import config_path
from tools.tune.candidates import apply_candidate
from tools.tune.outcome import Outcome, Row
from tools.tune.serving import base_config

_WIDTH = 116


def write_config(outcome: Outcome, place: int, hardware: str, gpu: bool, repository: Path) -> Path:
    """Write the best settings of one model beside its committed config, which stays as it is.

    Args:
        outcome: of the tuning, with a best choice.
        place: of the model in the plan.
        hardware: name of the config.
        gpu: whether instances are on a GPU.
        repository: the models' folder.

    Raises:
        OSError: the repository cannot be written.
    """
    assert outcome.best is not None
    model = outcome.models[place]
    path = config_path(model, hardware, repository)
    path.parent.mkdir(exist_ok=True)
    config = apply_candidate(outcome.best.plan[place], base_config(model, repository, gpu))
    write_atomically(path, f"{_comment(outcome, outcome.best, place)}\n{text_format.MessageToString(config)}")
    return path


def _comment(outcome: Outcome, best: Row, place: int) -> str:
    conditions, committed = outcome.conditions[place], outcome.committed
    rate = f", at {conditions.rate:g} requests per second" if conditions.rate else ""
    lines = [
        f"Tuned by tools.tune for {conditions.machine}. config.pbtxt is the contract; this file does not follow its "
        "changes: tune again, or remove it.",
        f"Objective: {conditions.objective} under {conditions.slo}, {conditions.protocol}, Poisson arrivals, "
        f"client batch {conditions.client_batch}{rate}{_company(outcome, place)}.",
        f"Measured: {best.shown} ({_span(best)}); as committed: {committed.shown} ({_span(committed)}). "
        f"Predicted by the twin: {best.predicted_shown}.",
        f"{outcome.simulated:,} candidates simulated, choices measured: {len(outcome.measured)}, in "
        f"{outcome.seconds:.0f} s; model version {conditions.version}, Triton {conditions.triton}.",
    ]
    if best.plan[place].max_batch_size < committed.plan[place].max_batch_size:
        lines.append("Requests of more inferences than max_batch_size are refused, which config.pbtxt would accept.")
    return "\n".join(f"# {line}" for text in lines for line in textwrap.wrap(text, _WIDTH))


def _company(outcome: Outcome, place: int) -> str:
    model = outcome.models[place]
    others = ", ".join(name for name in outcome.models if name != model)
    return f"; {outcome.shares[model]:.0%} of the requests here, the others to {others}" if others else ""


def _span(row: Row) -> str:
    trials = f"trials: {row.trials}"
    return trials if row.low is None else f"90 % interval {row.interval}, {trials}"
