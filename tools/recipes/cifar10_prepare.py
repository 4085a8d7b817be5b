"""cifar10_prepare: a colour picture of any size as cifar10_cnn expects it."""

from tools.recipes import Step
from tools.steps.colour import ColourPrepare

RECIPE = Step(network=ColourPrepare, prepares="cifar10_cnn", dims=((32, 32, 3), (9, 40, 3), (130, 200, 3)))
