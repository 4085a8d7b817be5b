"""digit_prepare: a picture of a digit, of any size and kind, as mnist_mlp expects it."""

from tools.recipes import Step
from tools.steps.digit import DigitPrepare

RECIPE = Step(network=DigitPrepare, prepares="mnist_mlp", dims=((28, 28, 1), (45, 37, 3), (130, 200, 1)))
