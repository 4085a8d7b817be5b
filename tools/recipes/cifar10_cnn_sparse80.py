"""cifar10_cnn_sparse80: four fifths of all weights zero, for comparison: neither tensors nor time shrink."""

from tools.compression.pruning import made_permanent, unstructured
from tools.recipes import Recipe

RECIPE = Recipe(
    parent="cifar10_cnn",
    before=unstructured(0.8),
    after=made_permanent,
    epochs=4,
    budget=0.03,
    default=False,
)
