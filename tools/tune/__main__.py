"""Find the best batching, instances and threads for models under latency objectives, in minutes.

Each choice of a grid is served and measured briefly with an open loop, the better half of them longer, and again, until
the best is known or the time is spent. The winner goes to `configs/<hardware>.pbtxt`, with the evidence as a comment;
`config.pbtxt` is never touched. A page with all trials goes to build/tune/, the last line of stdout is one JSON
document.

    python -m tools.tune mnist_mlp --slo 'p99<20ms'                                 # the highest rate within it
    python -m tools.tune mnist_mlp --slo 'p99<20ms' --objective latency --rate 2000 # the lowest latency at a rate
    python -m tools.tune mnist_mlp --slo 'p99<20ms' --url 127.0.0.1:8000            # a server in explicit mode
    python -m tools.tune mnist_mlp=3 cifar10_cnn=1 --slo 'p99<20ms'                 # several models on one server

Several models are tuned for the highest total rate at which each of them meets the objectives; the numbers are their
shares of the requests, 1 by default. After Ctrl-C the same command resumes; --fresh starts over. Exit code: 0 when a
choice meets the objectives, 1 when none does, 2 when the tuning could not be run, 3 when the generator was the
bottleneck.
"""

import argparse
import sys

from clients.command import command, command_parser, print_json, say, text_table
from loadtest.analysis.audit import INVALID
from tools.tune.candidates import TuningError
from tools.tune.options import TuneOptions, add_tune_arguments, tune_options


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.tune", __doc__)
    parser.add_argument("models", nargs="+", metavar="MODEL[=SHARE]", help="and its share of the requests (default: 1)")
    add_tune_arguments(parser)
    return parser


def _shares(texts: list[str]) -> dict[str, float]:
    """Parse each model's share of the requests; the shares are scaled to a sum of 1."""
    shares: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        try:
            share = float(number or 1)
        except ValueError:
            share = 0.0
        if not 0 < share < float("inf") or name in shares:
            raise TuningError(f"expected each model once, as MODEL or MODEL=SHARE with a share above 0, got {text!r}")
        shares[name] = share
    return {name: share / sum(shares.values()) for name, share in shares.items()}


@command(interrupted="the same command resumes from here")
def main() -> int:
    """Tune, report, and tell by the exit code whether the objectives were met."""
    arguments = _parser().parse_args()
    from tools.tune.tuning import tune

    outcome = tune(_shares(arguments.models), tune_options(arguments, TuneOptions))
    print(text_table(outcome.table()))
    print(outcome.summary)
    say("\n".join([f"Page: {outcome.page}", *(f"Config: {path}" for path in outcome.configs)]))
    print_json(outcome.document())
    if outcome.best:
        return 0
    return 1 if any(row.valid_trials for row in outcome.measured) else INVALID


if __name__ == "__main__":
    sys.exit(main())
