"""Classify image files with a served model: `python -m clients.classify IMAGE… --model cifar10_cnn`.

The server says how the model takes its image, so any image classifier of the repository will do, and any pipeline
that takes pixels or whole files. Exit code 1 means that a file could not be read, or that the model refused it.

    python -m clients.classify photo.jpg folder/ --model cifar10_cnn --protocol grpc --top 3
    python -m clients.classify build/samples/mnist_mlp --model mnist_mlp --truth    # folders name the true labels
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.classification import Answer, classify_files, show
from clients.client import Client
from clients.command import command, command_parser, positive, print_json, progress
from clients.connection import add_connection_arguments, connection_from
from clients.images import image_files


@command()
def main() -> int:
    """Classify the files and print their labels."""
    parser = command_parser("clients.classify", __doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--model", default="cifar10_cnn", help="(default: %(default)s)")
    parser.add_argument("--top", type=positive, default=3, help="labels per image (default: %(default)s)")
    parser.add_argument("--truth", action="store_true", help="compare with the name of the file's folder")
    parser.add_argument("--batch-size", type=positive, default=16, help="images per request (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    add_connection_arguments(parser)
    arguments = parser.parse_args()
    files = image_files(arguments.images)
    answers: list[Answer] = []
    try:
        with Client(connection_from(arguments)) as client:
            stream = classify_files(client, files, arguments.model, arguments.top, arguments.batch_size)
            # Lines show the progress themselves.
            for answer in progress(stream, "classifying", len(files), hidden=not arguments.json):
                answers.append(answer)
                if not arguments.json:
                    print(show(answer, arguments.truth), flush=True)
    finally:
        # What was answered before a failure is an answer too.
        if answers:
            _summarize(answers, arguments)
    return int(any(answer.error for answer in answers))


def _summarize(answers: list[Answer], arguments: argparse.Namespace) -> None:
    readable = [answer for answer in answers if not answer.error]
    accuracy = sum(answer.right for answer in readable) / len(readable) if readable else None
    if arguments.json:
        results = [_document(answer, arguments.truth) for answer in answers]
        truth = {"accuracy": accuracy} if arguments.truth else {}
        print_json({"model": arguments.model, "results": results, **truth})
    elif arguments.truth and accuracy is not None:
        print(f"{accuracy:.1%} of {len(readable)} right")


def _document(answer: Answer, truth: bool) -> dict[str, Any]:
    hidden = () if truth else ("truth",)
    return {key: value for key, value in asdict(answer).items() if value is not None and key not in hidden}


if __name__ == "__main__":
    sys.exit(main())
