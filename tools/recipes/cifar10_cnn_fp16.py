"""cifar10_cnn_fp16: the same weights in float16, for GPUs; a CPU runs it, slowly."""

import torch

from tools.compression.quantization import cast
from tools.recipes import Recipe

RECIPE = Recipe(parent="cifar10_cnn", after=cast(torch.float16), budget=0.005, tolerance=0.02, default=False)
