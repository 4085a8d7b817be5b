"""Classify image files: read, batched, labelled by the server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from clients.client import Client
from clients.contract import Array, Contract
from clients.errors import RequestRejected, ServerFailed
from clients.images import Readers, image_readers
from clients.labels import Label


@dataclass(frozen=True)
class Answer:
    """One file's labels, best first, or the reason why there are none; `truth` is the name of the file's folder."""

    file: str
    labels: tuple[Label, ...] = ()
    truth: str | None = None
    error: str | None = None

    @property
    def right(self) -> bool:
        """Whether the best label is the true one."""
        return bool(self.labels) and self.labels[0].name == self.truth


def classify_files(client: Client, files: list[Path], model: str, top: int, batch_size: int) -> Iterator[Answer]:
    """Classify files in batches; one that is no image, or that the model refuses, gets an answer with the reason.

    Raises:
        ClientError: the model takes no images, or the server fails.
    """
    contract = client.contract(model)
    readers = image_readers(contract)
    size = max(1, min(batch_size, contract.max_batch_size))
    for start in range(0, len(files), size):
        yield from _classify(client, files[start : start + size], contract, readers, top)


def _classify(client: Client, batch: list[Path], contract: Contract, readers: Readers, top: int) -> list[Answer]:
    tensors, errors = readers.load(batch, contract.batched)
    try:
        rows = iter([row for tensor in tensors for row in _labels(client, tensor, contract, top)])
    except (RequestRejected, ServerFailed) as error:
        if len(batch) == 1:
            return [Answer(str(batch[0]), error=str(error))]
        # For one bad file, all of a batch are refused.
        return [answer for file in batch for answer in _classify(client, [file], contract, readers, top)]
    return [
        Answer(str(file), error=error) if error else Answer(str(file), tuple(next(rows)), file.resolve().parent.name)
        for file, error in zip(batch, errors, strict=True)
    ]


def _labels(client: Client, tensor: Array, contract: Contract, top: int) -> list[list[Label]]:
    if contract.outputs[0].datatype != "BYTES":
        return client.classify(contract.model, tensor, top)
    # A pipeline that gives the best label and its probability, and no index.
    texts, scores = client.infer(contract.model, tensor, ["LABEL", "PROBABILITY"]).values()
    best = zip(texts.ravel(), scores.ravel().tolist(), strict=True)
    return [[Label(text.decode(), -1, score, score)] for text, score in best]


def show(answer: Answer, truth: bool) -> str:
    """Format one file's labels as a line; with `truth`, say whether the best one is right."""
    if answer.error:
        return f"{answer.file}: error: {answer.error}"
    labels = "  ".join(f"{label.name} {label.probability:.1%}" for label in answer.labels)
    verdict = f"   (truth: {answer.truth}{'' if answer.right else ', WRONG'})" if truth else ""
    return f"{answer.file}: {labels}{verdict}"
