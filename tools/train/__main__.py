"""Train a model by its recipe: `python -m tools.train mnist_mlp`.

Writes a checkpoint at the end of every epoch to build/checkpoints/, so that an interrupted training goes on where
it stopped and a finished one costs nothing the next time. The same settings give the same weights on the same
machine. `python -m tools.export` calls this when it needs weights, so you rarely run it yourself.

    python -m tools.train cifar10_cnn --data cifar10 --epochs 20
"""

import argparse
import sys
from dataclasses import asdict

from clients.command import command, command_parser, print_json
from tools import recipes
from tools.train.settings import add_arguments
from tools.train.training import train_from


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.train", __doc__)
    parser.add_argument("model", help=f"one of {', '.join(recipes.names())}")
    add_arguments(parser)
    return parser


@command(interrupted="the same command resumes after the last finished epoch")
def main() -> int:
    """Train a model and print its test accuracy."""
    arguments = _parser().parse_args()
    trained = train_from(arguments, arguments.model)
    count = len(trained.data.test_labels)
    print(f"{arguments.model}: test accuracy {trained.accuracy:.2%} of {count} images of {trained.data.title}")
    print_json({"model": arguments.model, "accuracy": trained.accuracy, **asdict(trained.settings)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
