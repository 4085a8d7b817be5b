"""How each model is made: one module per model, `tools/recipes/<model>.py`, each with a `RECIPE`.

A recipe holds what is particular to a model; what all models share is in `tools.train` and `tools.export`. A trained
model has a `Recipe`; a variant (quantized, pruned) starts from its parent's trained network or learns from a teacher.
A model that only computes has a `Step`, or a `PythonStep` if torch cannot express it; an ensemble of models has a
`Pipeline`. A network that was made elsewhere has an `Imported`, which `tools.new` writes.
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
    """There is no such recipe, or it cannot be followed; the message names it and the remedy."""


def unchanged(network: "nn.Module", _: "Tensor") -> "nn.Module":
    """Return the network as it is: the default of `before` and `after`."""
    return network


def _adam(parameters: "Iterable[nn.Parameter]", lr: float) -> "Optimizer":
    from torch.optim import Adam

    return Adam(parameters, lr=lr)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one trained model is made.

    Attributes:
        network: builds the untrained network; its inputs and outputs must match the model's config.pbtxt.
            None for a variant, which starts from its parent's trained network.
        optimizer: builds the optimizer from the parameters and the learning rate.
        epochs: 0 for a variant that is not trained any further.
        floors: the lowest test accuracy (0 to 1) that may be published, per data set; the first set is the real one,
            the second its offline stand-in. None for a variant: it uses its parent's data.
        parent: the model that this one is a variant of: where it starts, and what it is compared with.
        teacher: a model whose outputs it learns from in addition to the labels (knowledge distillation).
        distillation: the loss with a teacher.
        before, after: changes before and after training. Checkpoints hold, and variants start from, the network
            between the two.
        budget: how much test accuracy it may lose against its parent (0 to 1).
        tolerance: how far TorchScript may be from eager, relative and absolute; wider for low precision.
        threads: CPU threads for its training; None for all cores. Threads of a small network mostly wait for each
            other: on a busy host, two made the CNN's training four times slower than one.
        sizes: image sides in pixels for the first epochs, one per epoch (progressive resizing, as in fast.ai's
            DAWNBench entry of 2018); later epochs use the size that is served.
        images: at most this many training and test images, for a network that takes long for each; a variant without
            a number takes its parent's.
        autocast: train in bfloat16 if the device has instructions for it.
        pretrained: builds the network with pretrained weights, from a file or a name (`--weights`).
        default: whether `make build` builds it; others are built only on request.
    """

    network: "Callable[[], nn.Module] | None" = None
    optimizer: "Callable[[Iterable[nn.Parameter], float], Optimizer]" = _adam
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
        """Names of the data sets, the real one first."""
        if self.floors is None and self.parent:
            return trained(self.parent).data
        return tuple(self.floors or ())

    @property
    def limits(self) -> tuple[int, int] | None:
        """The largest numbers of training and test images to use; None for all."""
        if self.images is None and self.parent:
            return trained(self.parent).limits
        return self.images


@dataclass(frozen=True, kw_only=True)
class Step:
    """A model without training: pre- or post-processing as a network of pure torch operations.

    Attributes:
        network: builds it; for a step that prepares a classifier's input, from that classifier's `ImageSpec`.
        prepares: the classifier whose input it makes; its config.pbtxt gives mean, standard deviation and size.
        dims: shapes of one input to test it with, where config.pbtxt leaves dims variable.
    """

    network: "Callable[[], nn.Module] | Callable[[ImageSpec], nn.Module]"
    prepares: str | None = None
    dims: tuple[tuple[int, ...], ...] = ()
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class PythonStep:
    """A step that torch cannot express, for Triton's Python backend.

    Attributes:
        files: paths in this repository by the names under which they are published side by side; `step.py` holds a
            class `Step` whose `run` takes arrays by input name and returns arrays by output name.
        labels_of: the classifier whose labels.txt is published beside them.
    """

    files: Mapping[str, str]
    labels_of: str | None = None
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """An ensemble; its config.pbtxt lists its members, exactly one of which is trained.

    Attributes:
        budget: how much of that member's test accuracy it may lose (0 to 1).
    """

    budget: float = 0.01
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A network that was made elsewhere, given by exactly one of `module`, `torchscript` and `torchvision`.

    Paths are absolute or relative to this repository's root.

    Attributes:
        module: "path.py:Class": a class, a function that returns the network, or an instance.
        torchscript: a TorchScript file.
        torchvision: the name of one of torchvision's models.
        arguments: keyword arguments for the class, the function or torchvision.
        checkpoint: a file with the network's state dict.
        weights: a name of torchvision's weights; downloaded unless there is a checkpoint.
        squeezed: inputs that `forward` takes without the dimension of 1 that they have in config.pbtxt.
        dims: sets of shapes by input to test it with, where config.pbtxt leaves dims variable.
        tolerance: how far TorchScript may be from eager, relative and absolute.
        default: whether `make build` builds it: only if all of its files are in tools/, which every checkout has.
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
    """List the models that have a recipe, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(model: str) -> AnyRecipe:
    """Load the recipe of a model.

    Raises:
        RecipeError: there is no recipe of this name.
    """
    if model not in names():
        raise RecipeError(f"no recipe tools/recipes/{model}.py; there are: {', '.join(names())}")
    recipe: AnyRecipe = importlib.import_module(f"{__name__}.{model}").RECIPE
    return recipe


def trained(model: str) -> Recipe:
    """Load the recipe of a trained model.

    Raises:
        RecipeError: there is no recipe of this name, or the model is not trained.
    """
    recipe = load(model)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{model} is not trained; `python -m tools.export {model}` makes it")
    return recipe
