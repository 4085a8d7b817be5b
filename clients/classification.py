"""Classify image files: read, batched, labelled by the server."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients.client import Client
from clients.contract import Array, Contract
from clients.errors import InvalidInput
from clients.images import Readers, image_readers
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


def show(answer: Answer, truth: bool) -> str:
    """One file's line for people."""
    if answer.error:
        return f"{answer.file}: error: {answer.error}"
    labels = "  ".join(f"{label.name} {label.probability:.1%}" for label in answer.labels)
    verdict = f"   (truth: {answer.truth}{'' if answer.right else ', WRONG'})" if truth else ""
    return f"{answer.file}: {labels}{verdict}"
