"""Steps for Triton's Python backend. Each file here is published as it is, so it imports nothing of this repository.

`adapter.py` becomes model.py and speaks with Triton; what it serves, a class `Step`, becomes step.py and knows arrays
alone, so that export proves it and measures with it without a server.
"""

ADAPTER = "tools/steps/python/adapter.py"
