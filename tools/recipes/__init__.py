"""How each model is made: one module per model, `tools/recipes/<model>.py`, each with a `RECIPE`.

A recipe holds what is particular to a model; everything that is the same for all of them is in `tools.train` and
`tools.export`. A model that is trained has a `Recipe`; it may begin as the trained network of a parent (a variant:
quantized, pruned) or learn from a teacher. A model that only computes has a `Step`, or a `PythonStep` where torch
cannot do it, and an ensemble of such models has a `Pipeline`. One that was made elsewhere has an `Imported`, which
`tools.new` writes.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clients.errors import ToolError
from tools.compression.change import Change

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from clients.images import ImageSpec

# Logits [N, classes], labels int64 [N] and the teacher's logits [N, classes] to a scalar.
Distillation = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]


class RecipeError(ToolError):
    """A recipe is unknown or cannot be followed; the message names it and the remedy."""


def unchanged(network: "nn.Module", _: "Tensor") -> "nn.Module":
    """The change that changes nothing."""
    return network


def adam(parameters: "Iterable[nn.Parameter]", lr: float) -> "Optimizer":
    """The optimizer that suits most networks unasked."""
    from torch.optim import Adam

    return Adam(parameters, lr=lr)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one trained model is made.

    Attributes:
        network: builds the untrained network; inputs and outputs must be those of the model's config.pbtxt.
            None for a variant that begins as its parent's trained network.
        optimizer: builds the optimizer from the parameters and the learning rate.
        epochs: 0 for a variant that is not trained any further.
        floors: lowest test accuracy (0 to 1) that may be served, per data set; the first one is the real data,
            the second its offline stand-in. Empty for a variant: it takes its parent's data.
        parent: the model that this one is a variant of: where it begins, and what it is compared with.
        teacher: a model whose answers it learns from besides the labels.
        distillation: the loss with a teacher.
        before, after: changes before and after training. What is trained, resumed and handed to variants is the
            network between the two.
        budget: how much test accuracy it may lose against its parent (0 to 1).
        tolerance: how far TorchScript may be from eager, relative and absolute; wider for low precision.
        threads: CPU threads of its training; None for all cores. The threads of a small network's steps wait for
            each other: on a busy host, two made the CNN's training four times slower than one.
        sizes: pixels on each side in the first epochs, one number an epoch, where small images teach enough at first;
            later epochs see the size that is served (progressive resizing, as in fast.ai's DAWNBench entry of 2018).
        images: so many training and test images are used at most, for a network that takes long for each; a variant
            that says nothing takes its parent's.
        autocast: train in bfloat16 where the device has instructions for it.
        pretrained: builds the network from weights that somebody else trained, a file or a name (`--weights`).
        default: whether `make build` makes it; others are made when they are named.
    """

    network: "Callable[[], nn.Module] | None" = None
    optimizer: "Callable[[Iterable[nn.Parameter], float], Optimizer]" = adam
    epochs: int = 0
    batch_size: int = 64
    lr: float = 1e-3
    floors: Mapping[str, float] | None = None
    parent: str | None = None
    teacher: str | None = None
    distillation: Distillation | None = None
    before: Change = unchanged
    after: Change = unchanged
    budget: float | None = None
    tolerance: float = 1e-5
    threads: int | None = 1
    sizes: tuple[int, ...] = ()
    images: tuple[int, int] | None = None
    autocast: bool = False
    pretrained: "Callable[[str], nn.Module] | None" = None
    default: bool = True

    @property
    def data(self) -> tuple[str, ...]:
        """Names of the data sets, the preferred one first."""
        if self.floors is None and self.parent:
            return trained(self.parent).data
        return tuple(self.floors or ())

    @property
    def limits(self) -> tuple[int, int] | None:
        """So many training and test images are used at most; None for all."""
        if self.images is None and self.parent:
            return trained(self.parent).limits
        return self.images


@dataclass(frozen=True, kw_only=True)
class Step:
    """A model that learns nothing: pre- or post-processing as a network of pure torch operations.

    Attributes:
        network: builds it; of a step that prepares a classifier's input, from how that wants its image.
        prepares: the classifier whose input it makes; its config.pbtxt says mean, standard deviation and size.
        dims: shapes of one input to prove it with, where config.pbtxt leaves dims open.
    """

    network: "Callable[[], nn.Module] | Callable[[ImageSpec], nn.Module]"
    prepares: str | None = None
    dims: tuple[tuple[int, ...], ...] = ()
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class PythonStep:
    """A step that torch cannot express, for Triton's Python backend: it needs numpy, and what its files import.

    Attributes:
        files: paths in this repository, published side by side as they are named here; `step.py` holds a class
            `Step` whose `run` takes arrays by input name and returns arrays by output name.
        labels_of: the classifier whose labels.txt is published beside them.
    """

    files: Mapping[str, str]
    labels_of: str | None = None
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """An ensemble; its config.pbtxt says which models it is made of, one of which is trained.

    Attributes:
        budget: how much of that classifier's test accuracy it may lose (0 to 1).
    """

    budget: float = 0.01
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A network that was made elsewhere: exactly one of `module`, `torchscript` and `torchvision` says where.

    Paths are absolute, or relative to this repository's root.

    Attributes:
        module: "path.py:Class", the class, function or instance that gives the network.
        torchscript: a TorchScript file.
        torchvision: the name of one of torchvision's models.
        arguments: keyword arguments for the class, the function or torchvision.
        checkpoint: a file with the network's state dict.
        weights: a name of torchvision's weights; downloaded unless there is a checkpoint.
        squeezed: inputs that `forward` takes without the dimension of 1 that config.pbtxt gives them.
        dims: shapes by input to prove it with, one after the other, where config.pbtxt leaves dims open.
        tolerance: how far TorchScript may be from eager, relative and absolute.
        default: whether `make build` makes it: where all of its files lie in tools/, which everybody has.
    """

    module: str | None = None
    torchscript: str | None = None
    torchvision: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    weights: str | None = None
    squeezed: tuple[str, ...] = ()
    dims: tuple[Mapping[str, tuple[int, ...]], ...] = ()
    tolerance: float = 1e-4
    default: bool = True


AnyRecipe = Recipe | Step | PythonStep | Pipeline | Imported


def names() -> list[str]:
    """All models that have a recipe, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(model: str) -> AnyRecipe:
    """The recipe of a model.

    Raises:
        RecipeError: there is none of this name.
    """
    if model not in names():
        raise RecipeError(f"no recipe tools/recipes/{model}.py; there are: {', '.join(names())}")
    recipe: AnyRecipe = importlib.import_module(f"{__name__}.{model}").RECIPE
    return recipe


def trained(model: str) -> Recipe:
    """The recipe of a model that is trained.

    Raises:
        RecipeError: there is none of this name, or the model learns nothing.
    """
    recipe = load(model)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{model} is not trained; `python -m tools.export {model}` makes it")
    return recipe
