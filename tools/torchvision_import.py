"""Import torchvision even where its compiled operators do not fit the installed torch.

pip has torchvision as a CUDA build only; beside a CPU build of torch its operators fail to load, and its import then
stops at one that is not even needed here ("operator torchvision::nms does not exist"). Declaring the two operators
that torchvision registers on import lets it go on; data sets, transforms and models are plain Python.
"""

import importlib
from types import ModuleType
from typing import Any

import torch

SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# Declarations last as long as this object; torch forgets them when it is collected.
_declared: list[Any] = []


def torchvision_datasets() -> ModuleType:
    """The module torchvision.datasets."""
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    _declared.append(library)
    for schema in SCHEMAS.values():
        library.define(schema)
    return importlib.import_module("torchvision.datasets")
