"""torchvision's models by name: built, described by their published weights, and in a form that Triton can serve.

Detectors take a list of images and return a list of dicts, which Triton has no types for: they are served one image
at a time, with non-maximum suppression in plain torch in place of torchvision's C++ operator, which few servers have.
"""

import difflib
import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch._jit_internal import is_scripting
from torch.nn.modules.batchnorm import _BatchNorm

from tools.recipes import Imported, RecipeError
from tools.torchvision_import import load_torchvision

# A side of the images that a model gets where its published weights do not say it.
SIDE = 224
DETECTOR_SIDE = 320
CHANNELS = 3
IMAGES = 4  # For the statistics of random weights.


class Detections(NamedTuple):
    """What a detector found in one image: corners in pixels, classes and how sure it is."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class OneImage(nn.Module):
    """A detector for one image, float32 [3, H, W] with pixels in 0 to 1.

    Attributes:
        counts_vary: for `tools.importing.trial`: how many objects are found depends on the image.
    """

    counts_vary: bool

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.counts_vary = True

    def forward(self, image: Tensor) -> Detections:
        """Boxes float32 [N, 4] (left, top, right, bottom), labels int64 [N] and scores float32 [N], the best first."""
        # As TorchScript a detector returns its losses as well, which are empty here.
        found = self.detector([image])[1][0] if is_scripting() else self.detector([image])[0]
        return Detections(found["boxes"], found["labels"], found["scores"])


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression, as torchvision.ops.nms: indices of the boxes that are kept, best score first."""
    order = scores.argsort(descending=True)
    ordered = boxes[order]
    area = (ordered[:, 2] - ordered[:, 0]) * (ordered[:, 3] - ordered[:, 1])
    keep = torch.ones(ordered.size(0), dtype=torch.bool, device=boxes.device)
    for at in range(ordered.size(0)):
        if bool(keep[at]):
            rest = ordered[at + 1 :]
            sides = torch.minimum(ordered[at, 2:], rest[:, 2:]) - torch.maximum(ordered[at, :2], rest[:, :2])
            overlap = sides.clamp(min=0).prod(1)
            # Not `&=`, which TorchScript does to a copy of the slice.
            keep[at + 1 :].logical_and_(overlap / (area[at] + area[at + 1 :] - overlap) <= iou_threshold)
    return order[keep]


@dataclass(frozen=True)
class Published:
    """What torchvision says about the weights of a model.

    Attributes:
        dims: of one input image; None where it takes something else.
        mean, std: of pixels in 0 to 1, per channel; empty where it takes them as they are.
        labels: names of the classes; empty unless the weights are used.
    """

    dims: tuple[int, ...] | None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


def build(recipe: Imported) -> nn.Module:
    """A model by its name, with the recipe's weights or random ones.

    Raises:
        RecipeError: the name, the weights or the arguments are not right, or the weights cannot be downloaded.
    """
    name = known(recipe.torchvision or "")
    builder = load_torchvision().models.get_model_builder(name)
    options: dict[str, Any] = {"weights": None if recipe.checkpoint else weights_of(name, recipe.weights)}
    if options["weights"] is None and "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    try:
        with warnings.catch_warnings():
            # Of how some will initialise random weights in future.
            warnings.simplefilter("ignore", FutureWarning)
            network: nn.Module = builder(**options, **recipe.arguments)
    except URLError as error:
        raise RecipeError(
            f"the weights {options['weights']} cannot be downloaded ({error.reason}); download "
            f"{options['weights'].url} elsewhere and give it with --checkpoint, beside --weights"
        ) from error
    except (TypeError, ValueError) as error:
        raise RecipeError(f"torchvision's {name} refuses --arguments {dict(recipe.arguments)}: {error}") from error
    replace_operators(network, name)
    if not (recipe.checkpoint or recipe.weights):
        awaken(network, name)
    return network


def replace_operators(network: nn.Module, name: str) -> None:
    """Let detectors use `nms` above.

    Raises:
        RecipeError: it needs another operator, which a served file could not bring along.
    """
    if hasattr(network, "roi_heads"):
        raise RecipeError(
            f"{name} needs torchvision::roi_align, an operator of torchvision's C++ library, which a TorchScript file "
            "can name but not bring along; choose a detector without it: ssd300_vgg16, ssdlite320_mobilenet_v3_large, "
            "fcos_resnet50_fpn or retinanet_resnet50_fpn"
        )
    # By this name torchvision's own functions call the operator, as Python and when they are scripted.
    load_torchvision().models.detection.ssd.box_ops.nms = nms


def awaken(network: nn.Module, name: str) -> None:
    """Make random weights answer, since whatever is compared with zeros looks right.

    Some networks begin with a last layer of zeros; others vanish or explode, as their normalisations have seen nothing.
    """
    normalisations = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.any():
            layer.reset_parameters()
    dims = published(name, None).dims
    if dims is None or not normalisations:
        return
    before = [layer.momentum for layer in normalisations]
    network.eval()
    for layer in normalisations:
        layer.reset_running_stats()
        layer.momentum = None  # The plain average.
        layer.train()
    with torch.inference_mode():
        network(torch.randn(IMAGES, *dims) if name not in detectors() else list(torch.randn(IMAGES, *dims)))
    for layer, momentum in zip(normalisations, before, strict=True):
        layer.momentum = momentum
        layer.eval()


def detectors() -> list[str]:
    """Names of the models that find objects."""
    models = load_torchvision().models
    names: list[str] = models.list_models(module=models.detection)
    return names


def known(name: str) -> str:
    """The name, if torchvision has a model that is called so."""
    names = load_torchvision().models.list_models()
    if name not in names:
        near = difflib.get_close_matches(name, names, 3, 0.5)
        raise RecipeError(
            f"torchvision has no model '{name}'; "
            + (f"did you mean {', '.join(near)}?" if near else f"it has {len(names)}, for example {names[0]}")
        )
    return name


def weights_of(name: str, weights: str | None) -> Any:
    """A member of the enum of a model's weights; None for none.

    Raises:
        RecipeError: there is none of this name.
    """
    if weights is None:
        return None
    published = load_torchvision().models.get_model_weights(name)
    if weights not in published.__members__:
        there = ", ".join(published.__members__) or "none"
        raise RecipeError(f"torchvision has no weights '{weights}' of {name}; there are: {there}")
    return published[weights]


def published(name: str, weights: str | None) -> Published:
    """What is known about a model's input and classes.

    Raises:
        RecipeError: there is no such model, or it has no such weights.
    """
    models = load_torchvision().models
    chosen = weights_of(known(name), weights)
    if name in detectors():
        return Published((CHANNELS, DETECTOR_SIDE, DETECTOR_SIDE), labels=labels_of(chosen))
    members = list(models.get_model_weights(name).__members__.values())
    preset = (chosen or members[-1]).transforms() if members else None
    if preset is None or name not in models.list_models(module=models) + models.list_models(module=models.segmentation):
        return Published(None)
    side = getattr(preset, "crop_size", [SIDE])[0]
    return Published((CHANNELS, side, side), tuple(preset.mean), tuple(preset.std), labels_of(chosen))


def labels_of(weights: Any) -> tuple[str, ...]:
    """Names of the classes of some weights."""
    meta: Mapping[str, Any] = weights.meta if weights else {}
    return tuple(meta.get("categories", ()))


def served_form(name: str, network: nn.Module) -> nn.Module:
    """A model in a form that Triton has types for: detectors for one image, all others as they are."""
    return OneImage(network) if name in detectors() else network
