"""cifar10_label: the index of a class of cifar10_cnn as its label."""

from tools.recipes import PythonStep
from tools.steps.python import ADAPTER

RECIPE = PythonStep(files={"model.py": ADAPTER, "step.py": "tools/steps/python/label.py"}, labels_of="cifar10_cnn")
