"""image_decode: an encoded picture (JPEG, PNG, WebP …) as RGB pixels, by the code that the clients use."""

from tools.recipes import PythonStep
from tools.steps.python import ADAPTER

RECIPE = PythonStep(
    files={"model.py": ADAPTER, "step.py": "tools/steps/python/decode.py", "decoding.py": "clients/decoding.py"}
)
