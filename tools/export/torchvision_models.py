"""torchvision's models by name: built, described by their pretrained weights, and in a form that Triton can serve.

Detectors take a list of images and return a list of dicts, for which Triton has no types: they are served one image at
a time, with non-maximum suppression in plain torch instead of torchvision's C++ operator, which few servers have.
"""

import difflib
import inspect
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch._jit_internal import is_scripting
from torch.nn.modules.batchnorm import _BatchNorm

from tools.recipes import Imported, RecipeError
from tools.torchvision_import import load_torchvision, use_plain_nms


class Detections(NamedTuple):
    """A detector's results for one image: boxes in pixels, classes and confidences."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor


class SingleImageDetector(nn.Module):
    """A detector for one image, float32 [3, H, W] with pixels in 0 to 1."""

    counts_vary: bool  # Tells `tools.new.trial` that the number of results depends on the image.

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector
        self.counts_vary = True

    def forward(self, image: Tensor) -> Detections:
        """Return boxes float32 [N, 4] (left, top, right, bottom), labels int64 [N], scores float32 [N]; best first."""
        # As TorchScript, a detector also returns its losses, which are empty here.
        results = self.detector([image])[1][0] if is_scripting() else self.detector([image])[0]
        return Detections(results["boxes"], results["labels"], results["scores"])


@dataclass(frozen=True)
class Preset:
    """What torchvision says about a model's input and classes."""

    dims: tuple[int, ...] | None  # Of one input image; None if the input is not an image.
    mean: tuple[float, ...] = ()  # Of pixels in 0 to 1, per channel; empty if the model takes pixels as they are.
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()  # Names of the classes; empty unless pretrained weights are used.


def build(recipe: Imported) -> nn.Module:
    """Build a model by name, with the recipe's weights or random ones.

    Raises:
        RecipeError: the name, the weights or the arguments are invalid, or the weights cannot be downloaded.
    """
    name = _check_name(recipe.torchvision or "")
    builder = load_torchvision().models.get_model_builder(name)
    options: dict[str, Any] = {"weights": None if recipe.checkpoint else _weights(name, recipe.weights)}
    if options["weights"] is None and "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    try:
        with warnings.catch_warnings():
            # About how some models will initialise weights in future.
            warnings.simplefilter("ignore", FutureWarning)
            network: nn.Module = builder(**options, **recipe.arguments)
    except URLError as error:
        raise RecipeError(
            f"the weights {options['weights']} cannot be downloaded ({error.reason}); download "
            f"{options['weights'].url} elsewhere and pass it as --checkpoint, together with --weights"
        ) from error
    except (TypeError, ValueError) as error:
        raise RecipeError(f"torchvision's {name} refuses --arguments {dict(recipe.arguments)}: {error}") from error
    if hasattr(network, "roi_heads"):
        raise RecipeError(
            f"{name} needs torchvision::roi_align, an operator of torchvision's C++ library, which a TorchScript file "
            "can name but not contain; choose a detector without it: ssd300_vgg16, ssdlite320_mobilenet_v3_large, "
            "fcos_resnet50_fpn or retinanet_resnet50_fpn"
        )
    use_plain_nms()
    if not (recipe.checkpoint or recipe.weights):
        _make_random_weights_useful(network, name)
    return network


def _make_random_weights_useful(network: nn.Module, name: str) -> None:
    # Comparisons with all-zero answers prove nothing. Some networks start with a last layer of zeros; in others,
    # activations vanish or explode because the normalisations have no statistics.
    normalisations = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and not layer.weight.any():
            layer.reset_parameters()
    dims = preset(name, None).dims
    if dims is None or not normalisations:
        return
    before = [layer.momentum for layer in normalisations]
    network.eval()
    for layer in normalisations:
        layer.reset_running_stats()
        layer.momentum = None  # The plain average.
        layer.train()
    images = torch.randn(4, *dims)
    with torch.inference_mode():
        network(list(images) if name in _detectors() else images)
    for layer, momentum in zip(normalisations, before, strict=True):
        layer.momentum = momentum
        layer.eval()


def _detectors() -> list[str]:
    models = load_torchvision().models
    names: list[str] = models.list_models(module=models.detection)
    return names


def _check_name(name: str) -> str:
    names = load_torchvision().models.list_models()
    if name not in names:
        near = difflib.get_close_matches(name, names, 3, 0.5)
        raise RecipeError(
            f"torchvision has no model '{name}'; "
            + (f"did you mean {', '.join(near)}?" if near else f"it has {len(names)}, for example {names[0]}")
        )
    return name


def _weights(name: str, weights: str | None) -> Any:
    if weights is None:
        return None
    members = load_torchvision().models.get_model_weights(name)
    if weights not in members.__members__:
        known = ", ".join(members.__members__) or "none"
        raise RecipeError(f"torchvision has no weights '{weights}' of {name}; there are: {known}")
    return members[weights]


def preset(name: str, weights: str | None) -> Preset:
    """Look up a model's input and classes; RecipeError if there is no such model, or it has no such weights."""
    models = load_torchvision().models
    chosen = _weights(_check_name(name), weights)
    labels = tuple(chosen.meta.get("categories", ())) if chosen else ()
    if name in _detectors():
        return Preset((3, 320, 320), labels=labels)
    members = list(models.get_model_weights(name).__members__.values())
    transforms = (chosen or members[-1]).transforms() if members else None
    takes_images = models.list_models(module=models) + models.list_models(module=models.segmentation)
    if transforms is None or name not in takes_images:
        return Preset(None)
    side = getattr(transforms, "crop_size", [224])[0]
    return Preset((3, side, side), tuple(transforms.mean), tuple(transforms.std), labels)


def wrap_detector(name: str, network: nn.Module) -> nn.Module:
    """Wrap a detector so that it takes one image and returns tensors; other models are returned as they are."""
    return SingleImageDetector(network) if name in _detectors() else network
