"""cifar10_image_bytes: an image file in, its label out."""

from tools.recipes import Pipeline

RECIPE = Pipeline()
