"""digit_image: a picture of a digit in, probabilities out."""

from tools.recipes import Pipeline

RECIPE = Pipeline()
