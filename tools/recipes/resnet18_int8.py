"""resnet18_int8: weights and activations in int8, their ranges observed on training images."""

from tools.compression.quantization import static_int8
from tools.recipes import Recipe

RECIPE = Recipe(parent="resnet18", after=static_int8, budget=0.01, default=False)
