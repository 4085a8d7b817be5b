"""Train a model by its recipe: `python -m tools.train mnist_mlp`.

Writes a checkpoint to build/checkpoints/ after every epoch: an interrupted training resumes from it, and a finished
one is loaded instead of repeated. The same settings give the same weights on the same machine. `python -m tools.export`
trains when it needs weights, so you rarely run this yourself.

    python -m tools.train cifar10_cnn --data cifar10 --epochs 20
"""

import argparse
import sys
from dataclasses import asdict

from clients.command import command, command_parser, options_from, print_json
from tools import recipes
from tools.train.settings import TrainOptions, add_arguments


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("tools.train", __doc__)
    parser.add_argument("model", metavar="MODEL", help=f"one of {', '.join(recipes.names())}")
    add_arguments(parser)
    return parser


@command(interrupted="the same command resumes after the last finished epoch")
def main() -> int:
    """Train a model and print its test accuracy."""
    arguments = _parser().parse_args()
    from tools.train.training import train_model

    trained = train_model(arguments.model, options_from(arguments, TrainOptions))
    count = len(trained.data.test_labels)
    print(f"{arguments.model}: test accuracy {trained.accuracy:.2%} on {count} images of {trained.data.title}")
    print_json({"model": arguments.model, "accuracy": trained.accuracy, **asdict(trained.settings)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
