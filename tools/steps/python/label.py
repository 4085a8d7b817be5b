"""Indices to labels; published as step.py beside the labels.txt of a classifier."""

from __future__ import annotations

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
        """Int64 [N, 1] to BYTES [N, 1]."""
        return {"LABEL": self.labels[inputs["INDEX"]]}
