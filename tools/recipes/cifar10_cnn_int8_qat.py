"""cifar10_cnn_int8_qat: int8 after two more epochs in which the rounding was part of the forward pass."""

from tools.compression.quantization import fake_int8, trained_int8
from tools.recipes import Recipe

RECIPE = Recipe(
    parent="cifar10_cnn",
    before=fake_int8,
    after=trained_int8,
    epochs=2,
    lr=3e-4,
    budget=0.005,
    default=False,
)
