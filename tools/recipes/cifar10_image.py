"""cifar10_image: a colour picture in, probabilities out."""

from tools.recipes import Pipeline

RECIPE = Pipeline()
