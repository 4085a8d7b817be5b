"""digit_label: the index of a class of mnist_mlp as its label."""

from tools.recipes import PythonStep
from tools.steps.python import ADAPTER

RECIPE = PythonStep(files={"model.py": ADAPTER, "step.py": "tools/steps/python/label.py"}, labels_of="mnist_mlp")
