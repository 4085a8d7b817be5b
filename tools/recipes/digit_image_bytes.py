"""digit_image_bytes: an image file of a digit in, its label out."""

from tools.recipes import Pipeline

RECIPE = Pipeline()
