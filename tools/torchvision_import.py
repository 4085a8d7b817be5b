"""Import torchvision even where its compiled operators do not fit the installed torch.

The torchvision that pip offers is a CUDA build; beside a CPU build of torch its operators fail to load, and
its import then stops at one that is not even needed here ("operator torchvision::nms does not exist").
Declaring the two operators that it asks for on import lets it go on: data sets, transforms and models are
plain Python. A third one is asked for when a detector is scripted, for a branch that only training takes.
"""

import importlib
from types import ModuleType
from typing import Any

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "box_iou_rotated(Tensor boxes1, Tensor boxes2) -> Tensor",
)
# A declaration lasts as long as the object that made it, so it is kept here.
_declared: list[Any] = []


def load_torchvision() -> ModuleType:
    """The package torchvision, with its `datasets`, `models` and `transforms`.

    Raises:
        ImportError: torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    make: Any = torch.library.Library  # torch declares no types for it
    library = make("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)
    return importlib.import_module("torchvision")
