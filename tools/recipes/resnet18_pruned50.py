"""resnet18_pruned50: half of all channels removed, residual connections followed, and one more epoch of training."""

from tools.compression.pruning import structured
from tools.recipes import Recipe

RECIPE = Recipe(
    parent="resnet18",
    before=structured(0.5),
    epochs=1,
    batch_size=32,
    autocast=True,
    threads=None,
    budget=0.03,
    default=False,
)
