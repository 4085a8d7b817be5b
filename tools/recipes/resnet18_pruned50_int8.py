"""resnet18_pruned50_int8: half of the channels and a quarter of the bits; what the two save multiplies."""

from tools.compression.quantization import static_int8
from tools.recipes import Recipe

RECIPE = Recipe(
    parent="resnet18_pruned50",
    after=static_int8,
    budget=0.01,
    tolerance=0.25,  # As for resnet18_int8, which says why.
    default=False,
)
