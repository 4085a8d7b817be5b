"""resnet18_int8: weights and activations in int8, their ranges observed on training images."""

from tools.compression.quantization import static_int8
from tools.recipes import Recipe

RECIPE = Recipe(
    parent="resnet18",
    after=static_int8,
    budget=0.01,
    # One step of the logits is about 0.12. Calibrated again with another number of threads, whose sums round otherwise,
    # the network takes some values for the next step.
    tolerance=0.25,
    default=False,
)
