"""Classify image files with a served model: `python -m clients.classify IMAGE… --model cifar10_cnn`.

Reads how the model wants its image from the server, so any image classifier of the repository will do, and any
pipeline that takes pixels or whole files.

    python -m clients.classify photo.jpg folder/ --model cifar10_cnn --protocol grpc --top 3
    python -m clients.classify build/samples/mnist_mlp --model mnist_mlp --truth    # folders name the true labels
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clients.client import Client
from clients.connection import add_connection_arguments, connection_from
from clients.contract import Array, Contract
from clients.errors import ClientError, InvalidInput
from clients.image_source import Readers, image_readers
from clients.images import image_files
from clients.wire import Label


@dataclass(frozen=True)
class Answer:
    """One file's labels, best first, or the reason why there are none."""

    file: str
    labels: tuple[Label, ...] = ()
    truth: str | None = None
    error: str | None = None

    @property
    def right(self) -> bool:
        """Whether the best label is the true one."""
        return bool(self.labels) and self.labels[0].name == self.truth


def classify_files(client: Client, files: list[Path], model: str, top: int, batch_size: int) -> Iterator[Answer]:
    """Classify files in batches; a file that is no image gives an answer with an error and the rest goes on.

    Raises:
        ClientError: the model takes no images, or the server fails.
    """
    contract = client.contract(model)
    readers = image_readers(contract)
    size = max(1, min(batch_size, contract.max_batch_size))
    for start in range(0, len(files), size):
        yield from classify_batch(client, files[start : start + size], contract, readers, top)


def classify_batch(client: Client, files: list[Path], contract: Contract, readers: Readers, top: int) -> list[Answer]:
    """Classify up to one batch of files."""
    read, finish = readers
    loaded = [load_or_error(file, read) for file in files]
    images = [one for one in loaded if not isinstance(one, str)]
    rows = iter([row for stack in stacks(images) for row in classify_images(client, finish(stack), contract, top)])
    return [
        Answer(str(file), error=one)
        if isinstance(one, str)
        else Answer(str(file), tuple(next(rows)), file.resolve().parent.name)
        for file, one in zip(files, loaded, strict=True)
    ]


def load_or_error(file: Path, read: Callable[[Path], Array]) -> Array | str:
    """What of a file is sent, or why nothing is."""
    try:
        return read(file)
    except InvalidInput as error:
        return str(error)


def stacks(images: list[Array]) -> list[Array]:
    """Images in one batch where all have the same shape, else each by itself."""
    if len({image.shape for image in images}) == 1:
        return [np.stack(images)]
    return [image[None] for image in images]


def classify_images(client: Client, tensor: Array, contract: Contract, top: int) -> list[list[Label]]:
    """Labels of a batch; a model without batches has to get its one image bare."""
    tensor = tensor if contract.batched else tensor[0]
    if contract.outputs[0].datatype != "BYTES":
        return client.classify(contract.model, tensor, top)
    # A pipeline that says the best label and its probability, and no index.
    texts, scores = client.infer(contract.model, tensor, ["LABEL", "PROBABILITY"]).values()
    best = zip(texts.ravel(), scores.ravel().tolist(), strict=True)
    return [[Label(text.decode(), -1, score, score)] for text, score in best]


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


def show(answer: Answer, truth: bool) -> str:
    """One file's line for people."""
    if answer.error:
        return f"{answer.file}: error: {answer.error}"
    labels = "  ".join(f"{label.name} {label.probability:.1%}" for label in answer.labels)
    verdict = f"   (truth: {answer.truth}{'' if answer.right else ', WRONG'})" if truth else ""
    return f"{answer.file}: {labels}{verdict}"


def positive(text: str) -> int:
    """A whole number from 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


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
        hidden = len(files) <= arguments.batch_size or None
        answers = list(tqdm(stream, total=len(files), unit="image", leave=False, disable=hidden))
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
