"""resnet18_pruned50: half of all channels removed, residual connections followed, and two more epochs of training."""

from tools.compression.pruning import structured
from tools.recipes import Recipe

RECIPE = Recipe(
    parent="resnet18",
    before=structured(0.5),
    epochs=2,
    lr=3e-4,
    batch_size=32,
    autocast=True,
    threads=None,
    budget=0.03,
    default=False,
)
