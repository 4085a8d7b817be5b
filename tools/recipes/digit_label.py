"""digit_label: the index and the probability of a class of mnist_mlp as a label, and as JSON."""

from tools.recipes import PythonStep
from tools.steps.python import ADAPTER

RECIPE = PythonStep(files={"model.py": ADAPTER, "step.py": "tools/steps/python/label.py"}, labels_of="mnist_mlp")
