"""torchvision, also beside a torch that its compiled operators do not fit, and without its own nms operator.

The torchvision that pip offers is a CUDA build; beside a CPU build of torch its operators fail to load, and
its import then stops at one that is not even needed here ("operator torchvision::nms does not exist").
Declaring the two operators that it asks for on import lets it go on: data sets, transforms and models are
plain Python. A third one is asked for when a detector is scripted, for a branch that only training takes.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

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
    make_importable()
    return importlib.import_module("torchvision")


def make_importable() -> None:
    """Let anybody import torchvision from now on; without importing it, which takes seconds."""
    found = importlib.util.find_spec("torchvision") if not (_declared or "torchvision" in sys.modules) else None
    if found is None or not found.origin:
        return
    try:
        torch.ops.load_library(str(Path(found.origin).with_name("_C.so")))
    except OSError:
        make: Any = torch.library.Library  # torch declares no types for it
        library = make("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            library.define(schema)
        _declared.append(library)


def use_plain_nms() -> None:
    """Replace torchvision's nms, wherever it was imported to, by one of torch's own operators, which every server has.

    In eager mode, in scripted and in traced files alike.
    """
    boxes = sys.modules.get("torchvision.ops.boxes")
    if boxes is None or getattr(boxes.nms, "is_plain", False):
        return
    theirs, ours = boxes.nms, torch.jit.script_if_tracing(_nms)
    ours.is_plain = True
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("nms") is theirs:
            module.nms = ours  # type: ignore[attr-defined]


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    # As torchvision.ops.nms: indices of the remaining boxes, best score first.
    order = scores.argsort(descending=True)
    ordered = boxes[order]
    area = (ordered[:, 2] - ordered[:, 0]) * (ordered[:, 3] - ordered[:, 1])
    keep = torch.ones(ordered.size(0), dtype=torch.bool, device=boxes.device)
    for at in range(ordered.size(0)):
        if bool(keep[at]):
            rest = ordered[at + 1 :]
            sides = torch.minimum(ordered[at, 2:], rest[:, 2:]) - torch.maximum(ordered[at, :2], rest[:, :2])
            overlap = sides.clamp(min=0).prod(1)
            # Not `&=`, which TorchScript applies to a copy of the slice.
            keep[at + 1 :].logical_and_(overlap / (area[at] + area[at + 1 :] - overlap) <= iou_threshold)
    return order[keep]
