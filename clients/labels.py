"""Labels of a classifier's answer: Triton's classification extension, asked for and read."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from clients import wire
from clients.contract import Array, Contract
from clients.errors import InvalidInput, ServerFailed


@dataclass(frozen=True)
class Label:
    """One class of an answer."""

    name: str  # the label, or the index where the model has no labels
    index: int  # position in the output; -1 if the model gives the label alone
    score: float  # the model's raw output as Triton prints it, with six decimals
    # The score itself if the parameter SCORES in the model's config says so, else the softmax of the scores over all
    # classes.
    probability: float


def class_output(
    module: ModuleType, contract: Contract, output: str | None, top: int
) -> tuple[Any, Callable[[Any], list[list[Label]]]]:
    """Request an output (default: the first) as classes, all of them; returns what reads its `top` best labels too.

    Raises:
        InvalidInput: the model has no output of that name, or it contains texts; or `top` is less than one label.
    """
    if top < 1:
        raise InvalidInput(f"expected one label or more, got top={top}")
    wanted = output or contract.outputs[0].name
    wire.infer_outputs(module, contract, [wanted])
    spec = next(spec for spec in contract.outputs if spec.name == wanted)
    if spec.datatype == "BYTES":
        # tritonserver 2.51 divides by the size of an element, which is 0 for texts, and crashes.
        raise InvalidInput(f"{contract.model} output '{wanted}' contains texts, which are no scores; use infer")
    # Asked for more classes than there are, Triton returns all: dims that vary need no guess.
    classes = 2**30 if -1 in spec.dims else math.prod(spec.dims)
    requested = module.InferRequestedOutput(wanted, class_count=classes)
    return requested, lambda result: labels_from(result.as_numpy(wanted), contract, top)


def labels_from(rows: Array, contract: Contract, top: int) -> list[list[Label]]:
    """Parse Triton's "score:index:label" texts to the `top` best labels of each input.

    Raises:
        ServerFailed: a score is NaN, or the best one infinite.
    """
    are_probabilities = contract.parameters.get("SCORES") == "probabilities"
    answers = []
    for position, row in enumerate(rows if contract.batched else rows[None]):
        parts = [text.decode().split(":", 2) for text in row]
        scores = np.array([float(part[0]) for part in parts])
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            weights = np.exp(scores - scores.max(initial=-math.inf))
            probabilities = scores if are_probabilities else weights / weights.sum()
        if not np.isfinite(probabilities).all():
            raise ServerFailed(
                f"{contract.model} returned a score that is not finite ({scores[~np.isfinite(scores)][0]}) for input "
                f"{position} of the batch; look for NaN, infinite or huge values in that input"
            )
        best = zip(parts[:top], scores.tolist(), probabilities.tolist(), strict=False)
        answers.append([Label(part[-1], int(part[1]), score, probability) for part, score, probability in best])
    return answers
