"""mnist_mlp_int8: the digit classifier with int8 weights; activations are quantized per batch, no samples needed.

The scale of the activations comes from the whole batch, so a row's answer depends a little on its neighbours: hence
the tolerance.
"""

from tools.compression.quantization import dynamic_int8
from tools.recipes import Recipe

RECIPE = Recipe(parent="mnist_mlp", after=dynamic_int8, budget=0.01, tolerance=0.5, default=False)
