"""Classify image files with a served model: `python -m clients.classify IMAGE… --model cifar10_cnn`.

Reads how the model wants its image from the server, so any image classifier of the repository will do, and any
pipeline that takes pixels or whole files.

    python -m clients.classify photo.jpg folder/ --model cifar10_cnn --protocol grpc --top 3
    python -m clients.classify build/samples/mnist_mlp --model mnist_mlp --truth    # folders name the true labels
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.classification import Answer, classify_files, show
from clients.client import Client
from clients.command import positive, progress
from clients.connection import add_connection_arguments, connection_from
from clients.errors import ClientError
from clients.images import image_files


def summary(model: str, answers: list[Answer], truth: bool) -> dict[str, Any]:
    """The answers for scripts; accuracy, 0 to 1, is that of the files that could be read."""
    results = [{key: value for key, value in asdict(answer).items() if value is not None} for answer in answers]
    document: dict[str, Any] = {"model": model, "results": results}
    if truth:
        known = [answer for answer in answers if not answer.error]
        document["accuracy"] = sum(answer.right for answer in known) / len(known) if known else None
    else:
        for result in results:
            result.pop("truth", None)
    return document


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(prog="python -m clients.classify", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--model", default="cifar10_cnn", help="(default: %(default)s)")
    parser.add_argument("--top", type=positive, default=3, help="labels per image (default: %(default)s)")
    parser.add_argument("--truth", action="store_true", help="compare with the name of the file's folder")
    parser.add_argument("--batch-size", type=positive, default=16, help="images per request (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of lines")
    add_connection_arguments(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Classify and print; 1 when a file could not be read."""
    files = image_files(arguments.images)
    with Client(connection_from(arguments)) as client:
        stream = classify_files(client, files, arguments.model, arguments.top, arguments.batch_size)
        answers = list(progress(stream, "classifying", len(files), hidden=len(files) <= arguments.batch_size))
    document = summary(arguments.model, answers, arguments.truth)
    if arguments.json:
        print(json.dumps(document, separators=(",", ":")))
    else:
        print("\n".join(show(answer, arguments.truth) for answer in answers))
        if document.get("accuracy") is not None:
            print(f"{document['accuracy']:.1%} of {sum(not answer.error for answer in answers)} right")
    return 1 if any(answer.error for answer in answers) else 0


def main() -> int:
    """Entry point."""
    try:
        return run(parser().parse_args())
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
