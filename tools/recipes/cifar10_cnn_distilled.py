"""cifar10_cnn_distilled: the network of cifar10_cnn, trained by its recipe, with cifar10_cnn_wide as its teacher.

Compared with cifar10_cnn, which differs in nothing but the teacher.
"""

from dataclasses import replace

from tools.compression.distillation import distilled
from tools.recipes import cifar10_cnn, unchanged

RECIPE = replace(
    cifar10_cnn.RECIPE,
    parent="cifar10_cnn",
    teacher="cifar10_cnn_wide",
    distillation=distilled,
    after=unchanged,
    budget=0.01,
    default=False,
)
