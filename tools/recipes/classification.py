"""classification: logits as probabilities, with the best class: the end of every pipeline of ten classes."""

from tools.recipes import Step
from tools.steps.answer import Classification

RECIPE = Step(network=Classification)
