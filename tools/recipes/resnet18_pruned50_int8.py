"""resnet18_pruned50_int8: half of the channels and a quarter of the bits; what the two save multiplies."""

from tools.compression.quantization import static_int8
from tools.recipes import Recipe

RECIPE = Recipe(
    parent="resnet18_pruned50",
    after=static_int8,
    budget=0.01,
    # One step of the logits is about 0.12. Calibrated again with another number of threads, whose sums round otherwise,
    # the network takes some values for the next step.
    tolerance=0.25,
    default=False,
)
