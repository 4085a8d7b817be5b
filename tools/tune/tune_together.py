"""Tune several models that share one server: `tools.tune_together mnist_mlp=3 cifar10_cnn=1 --slo 'p99<20ms'`.

The numbers say how the requests are divided. Each model is calibrated and its twin proposes a few choices, as in
`tools.tune`, whose calibrations are taken over where they were made with the same things; then all models are loaded at
once, and one model's choice after another is changed for as long as the highest total rate at which every model keeps
to the objective grows. The best go to each model's `configs/<hardware>.pbtxt`; `config.pbtxt` is never touched.

Ctrl-C loses nothing: the same command goes on, and --fresh begins again. The last line of stdout is one JSON document.
Exit code: 0 when a plan keeps to the objective, 1 when none does, 2 when they could not be tuned, 3 when the generator
was the bottleneck.
"""

import argparse
import sys
import time

from clients.command import say
from tools.tune.__main__ import CALIBRATION_SHARE, about, add_tuning_arguments, carried_out, write
from tools.tune.candidates import TuningError, candidate_of
from tools.tune.goal import Goal, goal
from tools.tune.outcome_together import documents, table, write_page
from tools.tune.record import taken_up
from tools.tune.served import Served, served
from tools.tune.together import Member, Search, go
from tools.tune.trials import Document, yardstick

CHOICES = 4  # of each model that are tried in the others' company, besides the present one


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    text = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tools.tune_together", description=text)
    parser.add_argument("models", nargs="+", metavar="MODEL[=SHARE]", help="shares of the requests (default: 1 each)")
    add_tuning_arguments(parser)
    return parser


def shares(texts: list[str]) -> dict[str, float]:
    """Each model's share of the requests; they add up to 1.

    Raises:
        TuningError: a share cannot be read, or there are not several models.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            found[name] = float(number or 1)
        except ValueError:
            found[name] = 0.0
        if not 0 < found[name] < float("inf"):
            raise TuningError(f"expected MODEL or MODEL=SHARE with a share of more than 0, got {text!r}")
    if len(found) < 2:
        raise TuningError("expected two models or more; one by itself is tuned with tools.tune")
    return {name: share / sum(found.values()) for name, share in found.items()}


def member(one: Served, share: float, arguments: argparse.Namespace, wanted: Goal, until: float) -> Member:
    """A model with the choices that its twin proposes."""
    from tools.tune.prediction import shortlist
    from tools.tune.proposals import proposals

    named = with_model(arguments, one.model)
    how = yardstick(one, named, list(wanted.objectives))
    record = taken_up(arguments.output / f"{one.model}.json", about(one, named), arguments.fresh)
    ranked, simulated = proposals(one, how, named, wanted, record, until - record.seconds, say)
    present = candidate_of(one.base)
    choices = shortlist(ranked, present, CHOICES + 1)[1:]
    peaks = {each.candidate: each.figure for each in ranked if each.figure}
    alone = peaks.get(present) or max(peaks.values(), default=100.0)
    return Member(one, how, share, present, tuple(choices), simulated, alone)


def tune(ones: list[Served], divided: dict[str, float], arguments: argparse.Namespace, wanted: Goal) -> Document:
    """Calibrate each, search among all; returns the outcome."""
    began = time.monotonic()
    members = []
    for number, one in enumerate(ones):
        # Of the budget's part for calibrations, each model gets as much as is left for it.
        until = began + CALIBRATION_SHARE * arguments.budget * (number + 1) / len(ones)
        members.append(member(one, divided[one.model], arguments, wanted, until))
    described = {"shares": divided, "models": [about(one, with_model(arguments, one.model)) for one in ones]}
    path = arguments.output / f"{'-'.join(divided)}.json"
    search = Search(tuple(members), path, described, arguments.budget, say, time.monotonic() - began)
    if not arguments.fresh:
        search.take_up()
    result = documents(search, go(search), wanted)
    result["page"] = str(write_page(result, search, wanted, arguments.output))
    if result["best"] and not arguments.dry_run:
        result["configs"] = configs(result, search, arguments)
    return result


def with_model(arguments: argparse.Namespace, model: str) -> argparse.Namespace:
    """The arguments as tools.tune would have them for one model."""
    return argparse.Namespace(**{**vars(arguments), "model": model, "objective": "throughput", "rate": None})


def configs(result: Document, search: Search, arguments: argparse.Namespace) -> list[str]:
    """Write each model's choice with the evidence; returns the paths."""
    common = {"simulated": result["simulated"], "seconds": result["seconds"]}
    each = zip(search.members, search.about["models"], result["models"], strict=True)
    return [write(one.served, {**described, **of_model, **common}, arguments) for one, described, of_model in each]


def main() -> int:
    """Entry point."""
    arguments = parser().parse_args()

    def run() -> Document:
        divided = shares(arguments.models)
        wanted = goal(arguments.slo, "throughput", None)
        with served(list(divided), arguments) as ones:
            return tune(ones, divided, arguments, wanted)

    return carried_out(run, arguments, table)


if __name__ == "__main__":
    sys.exit(main())
