"""Indices and probabilities to labels; published as step.py beside the labels.txt of a classifier."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


class Step:
    """Looks up labels.txt, a label a line."""

    def __init__(self, folder: str) -> None:
        with open(os.path.join(folder, "labels.txt"), encoding="utf-8") as lines:
            self.labels = np.array([line.strip().encode() for line in lines], np.object_)

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Int64 and float32 [N, 1] to the label, BYTES [N, 1], and to label and probability as JSON, BYTES [N, 1]."""
        labels = self.labels[inputs["INDEX"]]
        pairs = zip(labels.ravel(), inputs["PROBABILITY"].ravel(), strict=True)
        answers = [answer(label.decode(), float(probability)) for label, probability in pairs]
        return {"LABEL": labels, "ANSWER": np.array(answers, np.object_).reshape(labels.shape)}


def answer(label: str, probability: float) -> bytes:
    """One answer as JSON."""
    return json.dumps({"label": label, "probability": round(probability, 4)}).encode()
