"""resnet18_bf16: the same weights in bfloat16, for CPUs and GPUs with instructions for it."""

import torch

from tools.compression.quantization import cast
from tools.recipes import Recipe

RECIPE = Recipe(parent="resnet18", after=cast(torch.bfloat16), budget=0.01, tolerance=0.2, default=False)
