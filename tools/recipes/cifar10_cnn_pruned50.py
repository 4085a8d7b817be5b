"""cifar10_cnn_pruned50: half of all channels and neurons removed, the rest trained on to make up for them."""

from tools.compression.pruning import structured
from tools.recipes import Recipe

RECIPE = Recipe(parent="cifar10_cnn", before=structured(0.5), epochs=6, budget=0.06, default=False)
